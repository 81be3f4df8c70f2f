// Package state keeps what the next life of the launcher has to know, in the state directory of its unit.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"deps.dev/util/semver"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/unfinished"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// directory is the unit's StateDirectory=. It is "" for a launcher that was started by hand. Nobody but this user may write there, or choose by a link where that is.
func directory() (string, error) {
	path := instance.Directory(os.Getenv("STATE_DIRECTORY"))
	if path == "" {
		if proctree.ExecutedBySystemd() {
			return "", errors.New("the unit gives it no state directory (StateDirectory=): run \"gateway install\" again")
		}
		return "", nil
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode().Type() == fs.ModeSymlink {
		above, aboveErr := os.Stat(filepath.Dir(path))
		if aboveErr != nil || above.Mode().Perm()&0o022 != 0 {
			return "", fmt.Errorf("%s is a link that others can change: put a directory there", path)
		}
		info, err = os.Stat(path)
	}
	if err != nil {
		return "", fmt.Errorf("look at the state directory: %w", err)
	}
	if !api.Private(info, os.Geteuid()) {
		return "", fmt.Errorf("%s is not a directory that only uid %d can write to (%s)", path, os.Geteuid(), info.Mode())
	}
	if last := lastVersion(path); IsLater(last) {
		return "", fmt.Errorf("%s was last used by version %s and this is %s, which leaves alone what it may not understand: install the later version again, or move the directory away",
			path, last, program())
	}
	return path, nil
}

// Good, Binds, Came, History and Alarm are the names of all files that a launcher keeps.
const (
	Good    = "last-good.yaml"
	Binds   = "binds.json"
	Came    = "sockets.json"
	History = "history.jsonl"
	Alarm   = "alarm"
)

// Clear takes away what a launcher has kept in a folder, which need not be there, and leaves all else.
func Clear(folder string) error {
	opened, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("clear the launcher's state: %w", err)
	}
	defer opened.Close()
	for _, name := range []string{Good, Binds, Came, History, Alarm, versionFile} {
		if err := opened.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("clear the launcher's state: %w", err)
		}
		if err := unfinished.Remove(opened, name); err != nil {
			return fmt.Errorf("clear the launcher's state: %w", err)
		}
	}
	return nil
}

// versionFile has the version of the program that wrote to the directory last.
const versionFile = "version"

// program is this program's version, which a test chooses.
var program = api.ProgramVersion

// lastVersion is that version; "" where nobody has written yet, or only a version that did not say so.
func lastVersion(directory string) string {
	content, _, err := read.File(filepath.Join(directory, versionFile), 100, os.Geteuid())
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// IsLater reports whether the version is later than this program's; what is no version is not.
func IsLater(version string) bool {
	for _, v := range []string{version, program()} {
		if _, err := semver.NPM.Parse(v); err != nil {
			return false
		}
	}
	return semver.NPM.Compare(version, program()) > 0
}

// Path is that of a file in the state directory; "" where there is none. The error says why there should be one: systemd has
// started the launcher, or somebody else may write there.
func Path(name string) (string, error) {
	there, err := directory()
	if there == "" {
		return "", err
	}
	return filepath.Join(there, name), nil
}

// Load returns what a file in the state directory has; nil where there is none, or one that is not this user's own.
func Load(name string) []byte {
	path, _ := Path(name)
	if path == "" {
		return nil
	}
	content, _, err := read.File(path, 1<<20, os.Geteuid())
	if err != nil {
		return nil
	}
	return content
}

// Write puts a file into the state directory, all of it or nothing. It may hold secrets: no byte of it in /tmp, where
// renameio writes first if it can. The directory says first which version has written to it.
func Write(path string, content []byte) error {
	writing.Lock()
	defer writing.Unlock()
	if lastVersion(filepath.Dir(path)) != program() {
		if err := put(filepath.Join(filepath.Dir(path), versionFile), []byte(program()+"\n")); err != nil {
			return err
		}
	}
	return put(path, content)
}

// writing is held by whoever writes: each file is written by one at a time.
var writing sync.Mutex

func put(path string, content []byte) error {
	if folder, err := os.OpenRoot(filepath.Dir(path)); err == nil {
		_ = unfinished.Remove(folder, filepath.Base(path)) // what an earlier life has left is in nobody's way
		_ = folder.Close()
	}
	err := renameio.WriteFile(path, content, 0o600, renameio.WithTempDir(filepath.Dir(path)))
	if failed := new(fs.PathError); errors.As(err, &failed) {
		err = &fs.PathError{Op: failed.Op, Path: path, Err: failed.Err} // and not the name that it has until it is complete
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: make room for %s", err, filepath.Dir(path))
	}
	return err
}

// Keeper keeps something for the next life of the launcher, beside everything else: a disk can be slow. What could not be kept is
// tried again with the next change, and whenever somebody asks.
type Keeper struct {
	Log     *slog.Logger
	What    string       // begins the sentence, with its verb
	Write   func() error // one call at a time
	Changed func()       // is called when it can be kept no more, or again

	mu       sync.Mutex
	writing  bool
	again    bool // it has changed meanwhile
	err      error
	finished sync.WaitGroup
}

// Fail says why it cannot be kept, before anything was.
func (k *Keeper) Fail(why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = why
}

// Keep has it written as it is now, or as it will be then.
func (k *Keeper) Keep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.again = true
	if k.writing {
		return
	}
	k.writing = true
	k.finished.Go(k.writeAll)
}

func (k *Keeper) writeAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.again {
		k.again = false
		k.mu.Unlock()
		err := k.Write()
		k.mu.Lock()
		changed := (k.err == nil) != (err == nil)
		k.err = err
		if changed && err != nil {
			k.Log.Error(k.What+" not kept for the next start of the launcher", "error", err)
		}
		if changed && k.Changed != nil {
			k.mu.Unlock()
			k.Changed()
			k.mu.Lock()
		}
	}
	k.writing = false
}

// Tell adds to the problems that it is not kept.
func (k *Keeper) Tell(problems *[]string) {
	k.mu.Lock()
	err := k.err
	k.mu.Unlock()
	if err != nil {
		*problems = append(*problems, fmt.Sprintf("%s not kept for the next start of the launcher: %v", k.What, err))
		k.Keep()
	}
}

// Wait returns when all is written.
func (k *Keeper) Wait() { k.finished.Wait() }
