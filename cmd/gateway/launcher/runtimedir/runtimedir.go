// Package runtimedir is where the launcher has its sockets and scripts.
package runtimedir

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/units/instance"
)

// Directory is where the launcher's sockets and scripts are: the one that systemd made for the unit, or one of the same
// name that it makes for a launcher run by hand. Nobody but this user may write there. Where somebody removes it and it cannot
// be made again, because /run is root's, the unit's cache directory stands in for it until it is there again.
type Directory struct {
	Own   string
	spare string // "" without a cache directory

	mu      sync.Mutex
	problem string // why the spare one is in use; "" while it is not
}

// New returns that of an instance. It fails where the launcher's own directory is not there, cannot be made, or may be somebody else's.
func New(name instance.Name) (*Directory, error) {
	d := &Directory{Own: First("RUNTIME_DIRECTORY"), spare: First("CACHE_DIRECTORY")}
	if d.Own == "" {
		d.Own = api.RuntimeDirectory(os.Geteuid() != 0, name)
	}
	err := makePrivate(d.Own)
	if errors.Is(err, unix.EROFS) && First("RUNTIME_DIRECTORY") == "" {
		// A container: root does not own /run there. Who asks looks here too.
		if other := api.RuntimeDirectory(true, name); makePrivate(other) == nil {
			d.Own, err = other, nil
		} else {
			err = fmt.Errorf("%w, nor can %s: in a container with a read-only root one of them has to be a tmpfs, or XDG_RUNTIME_DIR the path of one", err, other)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w; see %q", err, strings.Join(append([]string{"gateway", "status"}, name.Flag()...), " "))
	}
	return d, nil
}

// First returns the unit's own of the directories that systemd names in this variable; see [instance.Directory].
func First(variable string) string { return instance.Directory(os.Getenv(variable)) }

// Path returns the directory to use now. It makes the launcher's own again if that has been removed.
func (d *Directory) Path() (string, error) {
	err := makePrivate(d.Own)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problem = ""
	if err == nil || d.spare == "" {
		return d.Own, err
	}
	if spareErr := makePrivate(d.spare); spareErr != nil {
		return "", errors.Join(err, spareErr)
	}
	d.problem = fmt.Sprintf("%v: %s stands in for it until it is there again, which as root \"install -d -m 0711 -o %d -g %d %s\" makes it",
		err, d.spare, os.Geteuid(), os.Getegid(), d.Own)
	return d.spare, nil
}

// Problem says why the launcher's own directory is not in use; "" while it is.
func (d *Directory) Problem() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.problem
}

// makePrivate makes a directory unless it is there, and fails where it may be somebody else's.
func makePrivate(directory string) error {
	if err := os.MkdirAll(directory, 0o711); err != nil {
		// Not the name of its parent, at which it failed: this is the one that is missed.
		if errno, is := errors.AsType[syscall.Errno](err); is {
			err = errno
		}
		return fmt.Errorf("the runtime directory %s is not there and cannot be made (%w)", directory, err)
	}
	// Lstat: in a shared directory somebody else may have put a link there.
	info, err := os.Lstat(directory)
	if err != nil {
		return fmt.Errorf("examine the runtime directory: %w", err)
	}
	if !api.Private(info, os.Geteuid()) {
		return fmt.Errorf("%s is not a directory that only uid %d can write to (%s, uid %d): another user's launcher may use it",
			directory, os.Geteuid(), info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	return unix.Access(directory, unix.W_OK)
}
