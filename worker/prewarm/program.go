package prewarm

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"openclaw-gateway/worker/nodejs"
)

// Program is a Node.js with what it runs.
type Program struct {
	node  string
	entry string // the script, an absolute path without links
	argv  []string
	// directory and environ are what it starts with.
	directory string
	environ   []string
}

// Of returns the program that a command is, whose file is at path; an error says why its modules cannot be loaded ahead.
func Of(path string, argv []string, directory string, environ []string) (Program, error) {
	node, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Program{}, err
	}
	entry, err := nodejs.Entry(argv, directory)
	if err != nil {
		return Program{}, err
	}
	return Program{node: node, entry: entry, argv: argv, directory: directory, environ: environ}, nil
}

// passing are the variables that another start of the same program may have another value of, or their beginnings.
var passing = []string{
	"GATEWAY_", "LISTEN_", "NOTIFY_SOCKET=", "WATCHDOG_", "INVOCATION_ID=", "JOURNAL_STREAM=", "SYSTEMD_EXEC_PID=", "MAINPID=", "MANAGERPID", "TRIGGER_",
	"MEMORY_PRESSURE_",
}

// Key tells the program from each other one, and from itself before an update: it is of the files that Node.js, the script and the nearest
// package.json are, of the command and of the environment.
func (p Program) Key() (string, error) {
	sum := sha256.New()
	files := []string{p.node, p.entry}
	if manifest := nodejs.Manifest(filepath.Dir(p.entry)); manifest != "" {
		files = append(files, manifest)
	}
	if err := addFiles(sum, files); err != nil {
		return "", err
	}
	fmt.Fprintf(sum, "%q %q\n", p.argv, p.directory)
	environ := slices.DeleteFunc(slices.Clone(p.environ), func(entry string) bool {
		return slices.ContainsFunc(passing, func(name string) bool { return strings.HasPrefix(entry, name) })
	})
	slices.Sort(environ)
	fmt.Fprintf(sum, "%q\n", environ)
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// addFiles adds what tells a file from one that was put in its place, or was written to.
func addFiles(sum hash.Hash, paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() {
			return &fs.PathError{Op: "load ahead", Path: path, Err: errors.New("no regular file")}
		}
		fmt.Fprintf(sum, "%q %d %d %d %d %d\n", path, stat.Dev, stat.Ino, stat.Size, stat.Mtim.Nano(), stat.Ctim.Nano())
	}
	return nil
}
