package read

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// linksLimit is how many symbolic links the kernel follows, path_resolution(7).
const linksLimit = 40

// Why root does not read what its user would: wrapped by the error about a link that root does not follow, and by that about
// a file that is not of the owner that it should have.
var (
	ErrLink  = errors.New("root does not follow it: name the file itself")
	ErrOwner = errors.New("is not read")
)

// locate opens what is at path with O_PATH, which neither reads nor wakes anything, and looks what it is.
func locate(path string) (*os.File, fs.FileInfo, error) {
	if path != "" && os.Geteuid() == 0 {
		return walk(path)
	}
	return open(unix.AT_FDCWD, path, path, 0)
}

// Directory opens a directory with O_PATH, to write into it. On the way no link is followed that another user than root and the
// caller can choose: the kernel itself refuses such in sticky directories alone (fs.protected_symlinks), and not everywhere.
func Directory(path string) (*os.File, error) {
	directory, info, err := walk(path)
	switch {
	case err != nil:
		return nil, err
	case !info.IsDir():
		_ = directory.Close()
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	return directory, nil
}

// walk is what the kernel does with a path, name by name, but for the links that root does not follow. openat2(2) cannot tell
// root's links from others', and is not everywhere.
func walk(path string) (*os.File, fs.FileInfo, error) {
	absolute := path
	if !filepath.IsAbs(path) {
		directory, err := os.Getwd()
		if err != nil {
			return nil, nil, fmt.Errorf("%s: the working directory is not known: %w", path, err)
		}
		absolute = directory + "/" + path // not cleaned: a ".." may follow a link
	}
	rest := names(absolute)
	at, info, err := open(unix.AT_FDCWD, "/", path, unix.O_DIRECTORY)
	if err != nil {
		return nil, nil, err
	}
	roots := ofRoot(info) // whether every directory until here is root's alone, or the caller's
	for links := 0; len(rest) > 0; {
		if !info.IsDir() {
			_ = at.Close()
			return nil, nil, &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
		}
		next, found, err := open(int(at.Fd()), rest[0], path, unix.O_NOFOLLOW)
		if err != nil {
			_ = at.Close()
			return nil, nil, err
		}
		rest = rest[1:]
		if found.Mode().Type() != fs.ModeSymlink {
			_ = at.Close()
			at, info = next, found
			roots = roots && ofRoot(info)
			continue
		}
		target, err := linkTarget(next)
		_ = next.Close()
		links++
		// What /proc/PID/fd names so has no path: /dev/stdin, and a shell's <(…).
		kind, _, nameless := strings.Cut(target, ":[")
		switch {
		case err == nil && nameless && !strings.Contains(kind, "/"):
			err = fmt.Errorf("%s is a %s: put a regular file there", path, strings.Replace(kind, "pipe", "named pipe", 1))
		case !roots || !trusted(found):
			err = fmt.Errorf("%s: %q on the way is a link that another user than root can choose, and %w", path, found.Name(), ErrLink)
		case err == nil && links > linksLimit:
			err = &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
		case err == nil && filepath.IsAbs(target):
			_ = at.Close()
			at, info, err = open(unix.AT_FDCWD, "/", path, unix.O_DIRECTORY)
		}
		if err != nil {
			if at != nil {
				_ = at.Close()
			}
			return nil, nil, err
		}
		rest = append(names(target), rest...)
	}
	return at, info, nil
}

// ofRoot says whether root alone decides which names stand in a directory: in a sticky one nobody else can move what is root's. Another
// caller than root trusts itself, too.
func ofRoot(info fs.FileInfo) bool {
	return trusted(info) && (info.Mode()&0o022 == 0 || info.Mode()&fs.ModeSticky != 0)
}

func trusted(info fs.FileInfo) bool { return Owner(info) == 0 || Owner(info) == os.Geteuid() }

// Resolve is [filepath.EvalSymlinks] by the kernel, which follows 40 links and not 255: with those a path that somebody else has chosen
// takes a minute.
func Resolve(path string) (string, error) {
	file, _, err := open(unix.AT_FDCWD, path, path, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	return os.Readlink(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
}

// open opens a name in a directory with O_PATH. What is wrong is told of the whole path.
func open(directory int, name, path string, flags int) (*os.File, fs.FileInfo, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat(directory, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
		return err
	})
	if err != nil {
		return nil, nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(fd), name)
	info, err := file.Stat()
	if err != nil {
		_ = file.Close()
		return nil, nil, &fs.PathError{Op: "stat", Path: path, Err: errors.Unwrap(err)}
	}
	return file, info, nil
}

func linkTarget(link *os.File) (string, error) {
	buffer := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(link.Fd()), "", buffer)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: link.Name(), Err: err}
	}
	return string(buffer[:n]), nil
}

// names splits a path.
func names(path string) []string {
	var split []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			split = append(split, name)
		}
	}
	return split
}
