package handoff

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind names a way to hand over the sockets.
type Kind string

// The kinds, as the configuration names them.
const (
	Auto      Kind = "auto"
	ListenFDs Kind = "listen-fds"
	Preload   Kind = "preload"
	Intercept Kind = "intercept"
)

// ErrIntercept says that the intercept handoff was asked for.
var ErrIntercept = errors.New("handoff intercept is not available in this version: use preload for Node.js, listen-fds for anything else")

// Choose resolves Auto for the program at path, an absolute path: Preload when
// it is Node.js or a script for Node.js, else ListenFDs; and Auto, which is both, when
// it is a shell, a script for one, or a wrapper, which becomes anything.
func Choose(asked Kind, path string, argv []string) (Kind, error) {
	switch asked {
	case ListenFDs, Preload:
		return asked, nil
	case Intercept:
		return "", ErrIntercept
	case Auto:
		node, err := runs(nodeName, path, argv)
		if err != nil {
			return "", err
		}
		if node {
			return Preload, nil
		}
		wrapper, err := runs(wrapperName, path, argv)
		if err == nil && !wrapper {
			wrapper, err = nixWrapper(path)
		}
		if err != nil {
			return "", err
		}
		if wrapper {
			return Auto, nil
		}
		return ListenFDs, nil
	default:
		return "", fmt.Errorf("unknown handoff %q", asked)
	}
}

// Distributions call it node, nodejs or node-24.
var (
	nodeName = regexp.MustCompile(`^node(js)?(-?[0-9.]+)?$`)
	bunName  = regexp.MustCompile(`^bunx?(-?[0-9.]+)?$`)
	// Shells, and programs that become another one, or wait for it, and leave it the descriptors that they have.
	wrapperName = regexp.MustCompile(`^(sh|bash|dash|ash|ksh|mksh|zsh|fish|busybox|` +
		`env|nice|ionice|chrt|taskset|numactl|setpriv|runuser|su|setsid|nohup|stdbuf|unbuffer|timeout|prlimit|chroot|unshare|nsenter|flock|` +
		`tini|dumb-init|catatonit|su-exec|gosu|chpst|softlimit|setuidgid|envdir|s6-[a-z]+|direnv|dotenvx|mise|rtx|asdf|volta(-shim)?|fnm|nodenv)$`)
)

// Wraps reports whether a program of that name becomes another one, or waits for it, and leaves it the sockets.
func Wraps(name string) bool { return wrapperName.MatchString(name) }

// nixWrapper reports whether it is the small program that Nixpkgs puts in front of another one, to set its environment
// (makeCWrapper in its pkgs/build-support/setup-hooks/make-binary-wrapper): its source is in it as a text.
func nixWrapper(path string) (bool, error) {
	const most = 256 << 10 // they are some 20 KiB
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrPermission) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > most {
		return false, err
	}
	content, err := io.ReadAll(io.LimitReader(file, most))
	return bytes.HasPrefix(content, []byte("\x7fELF")) && bytes.Contains(content, []byte("makeCWrapper ")), err
}

// Bun reports whether the program at path is Bun or a script for it: it cannot inherit a socket (oven-sh/bun 33578).
func Bun(path string, argv []string) bool {
	bun, err := runs(bunName, path, argv)
	return err == nil && bun
}

// runs reports whether the program at path has such a name, or is a script for one that has.
func runs(program *regexp.Regexp, path string, argv []string) (bool, error) {
	if filepath.Base(path) == "env" && program == bunName {
		for _, argument := range argv[1:] {
			if !strings.HasPrefix(argument, "-") && !strings.Contains(argument, "=") {
				return program.MatchString(filepath.Base(argument)), nil
			}
		}
		return false, nil
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, fmt.Errorf("examine the worker's program: %w", err)
	}
	if program.MatchString(filepath.Base(path)) || program.MatchString(filepath.Base(target)) {
		return true, nil
	}
	interpreter, err := shebang(target)
	if err != nil {
		return false, fmt.Errorf("examine the worker's program: %w", err)
	}
	return slices.ContainsFunc(strings.Fields(interpreter), func(word string) bool {
		name := filepath.Base(word)
		return name != "env" && program.MatchString(name)
	}), nil
}

// shebang returns the interpreter line of a script without its "#!", or "". A
// program that may be executed but not read has none that we could know of, and what is no file is executed by nobody.
func shebang(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, os.ErrPermission) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is no regular file", path)
	}
	// The kernel looks at no more than 256 bytes (BINPRM_BUF_SIZE).
	line, err := bufio.NewReaderSize(io.LimitReader(file, 256), 256).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	interpreter, script := strings.CutPrefix(line, "#!")
	if !script {
		return "", nil
	}
	// The kernel takes blanks away, and not the carriage return of a file from Windows.
	return strings.Trim(interpreter, " \t\n"), nil
}
