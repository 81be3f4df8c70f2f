package handoff

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
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

// HasGate reports whether a worker can be held back before it listens, and tells when it no longer does. Of Auto that is so if it
// becomes a Node.js.
func (k Kind) HasGate() bool { return k == Preload || k == Intercept || k == Auto }

// Interceptable reports whether Intercept can hand over all of them.
func Interceptable(sockets []Socket) bool {
	return !slices.ContainsFunc(sockets, func(s Socket) bool { return s.Address.IsUnix() })
}

// Choose resolves Auto for the program at path, an absolute path: Preload when
// it is Node.js or a script for Node.js, else ListenFDs; and Auto, which is both, when
// it is a shell, a script for one, or a wrapper, which becomes anything.
func Choose(asked Kind, path string) (Kind, error) {
	switch asked {
	case ListenFDs, Preload, Intercept:
		return asked, nil
	case Auto:
		node, err := runs(isNode, path)
		if err != nil {
			return "", err
		}
		if node {
			return Preload, nil
		}
		wrapper, err := runs(Wraps, path)
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

// isNode and the others know a program by the name of its file. No regular expressions: they would stay in the launcher's memory.
func isNode(name string) bool { return named(name, "node", "nodejs") }

func isBun(name string) bool { return named(name, "bun", "bunx") }

// named reports whether it is one of these names, perhaps with a version behind it: distributions have node-24 and python3.13.
func named(name string, names ...string) bool {
	if bare := strings.TrimRight(name, "0123456789."); bare != name {
		name = strings.TrimSuffix(bare, "-")
	}
	return slices.Contains(names, name)
}

// wrappers are shells, and programs that become another one, or wait for it, and leave it the descriptors that they have.
var wrappers = []string{
	"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "fish", "busybox",
	"env", "nice", "ionice", "chrt", "taskset", "numactl", "setpriv", "runuser", "su", "setsid", "nohup", "stdbuf", "unbuffer", "timeout", "prlimit",
	"chroot", "unshare", "nsenter", "flock",
	"tini", "dumb-init", "catatonit", "su-exec", "gosu", "chpst", "softlimit", "setuidgid", "envdir", "direnv", "dotenvx", "mise", "rtx", "asdf",
	"volta", "volta-shim", "fnm", "nodenv",
}

// Wraps reports whether a program of that name becomes another one, or waits for it, and leaves it the sockets.
func Wraps(name string) bool {
	return slices.Contains(wrappers, name) || strings.HasPrefix(name, "s6-")
}

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
	if filepath.Base(path) == "env" {
		for _, argument := range argv[1:] {
			if !strings.HasPrefix(argument, "-") && !strings.Contains(argument, "=") {
				return isBun(filepath.Base(argument))
			}
		}
		return false
	}
	bun, err := runs(isBun, path)
	return err == nil && bun
}

// runs reports whether the program at path is known by its name, or is a script for one that is.
func runs(known func(name string) bool, path string) (bool, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false, fmt.Errorf("examine the worker's program: %w", err)
	}
	if known(filepath.Base(path)) || known(filepath.Base(target)) {
		return true, nil
	}
	interpreter, err := shebang(target)
	if err != nil {
		return false, fmt.Errorf("examine the worker's program: %w", err)
	}
	return slices.ContainsFunc(strings.Fields(interpreter), func(word string) bool {
		name := filepath.Base(word)
		return name != "env" && known(name)
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
