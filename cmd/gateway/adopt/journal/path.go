package journal

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/read"
)

// Kind is what lies at a path.
type Kind string

// The kinds.
const (
	Absent Kind = "absent"
	File   Kind = "file"
	Link   Kind = "link" // symbolic; it is never followed
	Folder Kind = "folder"
)

// State is what lies at a path. Of a file its content is told by the SHA-256.
type State struct {
	Kind    Kind        `json:"kind"`
	Mode    fs.FileMode `json:"mode,omitempty"` // the permissions and the sticky, setuid and setgid bits
	UID     int         `json:"uid"`
	GID     int         `json:"gid"`
	Changed time.Time   `json:"changed,omitzero"` // mtime of a file
	Sum     string      `json:"sum,omitempty"`
	Target  string      `json:"target,omitempty"`
}

// same reports whether nobody can tell the two apart, but by the time.
func (s State) same(other State) bool {
	s.Changed, other.Changed = time.Time{}, time.Time{}
	return s == other
}

// The most of what is kept: unit files, drop-ins, links and configurations.
const (
	fileLimit  = read.ConfigLimit
	namesLimit = 1000 // in a folder
)

func names(folder string) (names []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("look into what is to be set aside: %w", err)
	}
	if len(entries) > namesLimit {
		return nil, fmt.Errorf("%s has more than %d files in it, and would be set aside with them: move away what is not systemd's, then run this again", folder, namesLimit)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names, nil
}

// writable fails if nothing can be put into a folder: its file system is read-only, say, as /etc is where it is made of packages.
func writable(folder string) error {
	err := unix.Access(folder, unix.W_OK)
	if errors.Is(err, unix.ENOENT) { // it will be made
		return writable(filepath.Dir(folder))
	}
	if err != nil {
		return fmt.Errorf("nothing can be put into %s: %w", folder, err)
	}
	return nil
}

// settle has a file, and the names in its folder, be on the disk.
func settle(path string) error {
	for _, path := range []string{path, filepath.Dir(path)} {
		file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) { // removed, or a link
			continue
		}
		if err != nil {
			return err
		}
		err = file.Sync()
		_ = file.Close()
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

// tidy takes away what an interrupted step has left beside a path.
func tidy(path string) error {
	folder, err := os.OpenRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	return clear(folder, filepath.Base(path))
}

func sum(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// look says what lies at a path, and what is in it if it is a file.
func look(path string) (State, []byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return State{Kind: Absent}, nil, nil
	}
	if err != nil {
		return State{}, nil, fmt.Errorf("look what is there: %w", err)
	}
	state := stateOf(info)
	switch {
	case state.Kind == Link:
		state.Target, err = os.Readlink(path)
		return state, nil, err
	case state.Kind != File:
		if state.Kind == "" {
			err = fmt.Errorf("%s is neither a file nor a folder nor a link, and would be set aside: move it away, then run this again", path)
		}
		return state, nil, err
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return state, nil, fmt.Errorf("look what is there: %w", err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return state, nil, fmt.Errorf("look what is there: %w", err)
	}
	if state = stateOf(info); state.Kind != File {
		return state, nil, fmt.Errorf("somebody replaces %s at this moment: run this again", path)
	}
	content, err := io.ReadAll(io.LimitReader(file, fileLimit+1))
	if err == nil && len(content) > fileLimit {
		err = fmt.Errorf("%s is bigger than %d MiB, and would be set aside: move it away, then run this again", path, fileLimit>>20)
	}
	state.Sum = sum(content)
	return state, content, err
}

func stateOf(info fs.FileInfo) State {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode()
	state := State{UID: int(stat.Uid), GID: int(stat.Gid), Mode: mode & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)}
	switch {
	case mode.IsRegular():
		state.Kind, state.Changed = File, info.ModTime()
	case mode.IsDir():
		state.Kind = Folder
	case mode.Type() == fs.ModeSymlink:
		state.Kind, state.Mode = Link, 0
	}
	return state
}

// put has a path be as it shall be: a file or a link in one step. With sync it is on the disk when it returns.
func put(path string, want State, content []byte, sync bool) error {
	folder, err := os.OpenRoot(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) && want.Kind == Absent {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	name := filepath.Base(path)
	switch want.Kind {
	case Absent:
		err = remove(folder, name)
	case Folder:
		err = folder.Mkdir(name, want.Mode.Perm())
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
		if err == nil {
			err = own(folder, name, want)
		}
	case Link:
		err = link(folder, name, want)
	case File:
		err = writeFile(folder, name, content, want, sync)
		if err == nil && !want.Changed.IsZero() {
			err = folder.Chtimes(name, want.Changed, want.Changed)
		}
	}
	if err != nil {
		return err
	}
	step()
	if !sync {
		return nil
	}
	return syncFolder(folder, ".")
}

func own(folder *os.Root, name string, want State) error {
	info, err := folder.Lstat(name)
	if err != nil {
		return err
	}
	if now := stateOf(info); now.UID != want.UID || now.GID != want.GID {
		if err := folder.Lchown(name, want.UID, want.GID); err != nil {
			return err
		}
	}
	if want.Kind == Link {
		return nil
	}
	return folder.Chmod(name, want.Mode)
}

// beside is the name that a file or a link has until it is complete. It is the same each time, so that one which was left is
// found; the lock keeps others from it.
func beside(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".gateway-adopt")
}

func clear(folder *os.Root, name string) error { return remove(folder, beside(name)) }

// remove takes away what need not be there. On a read-only file system to remove what is not there is EROFS.
func remove(folder *os.Root, name string) error {
	if _, err := folder.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := folder.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// link makes a symbolic link beside the place and moves it there.
func link(folder *os.Root, name string, want State) error {
	if err := clear(folder, name); err != nil {
		return err
	}
	err := folder.Symlink(want.Target, beside(name))
	if err == nil {
		err = own(folder, beside(name), want)
	}
	if err == nil {
		step()
		err = folder.Rename(beside(name), name)
	}
	if err != nil {
		return errors.Join(err, clear(folder, name))
	}
	return nil
}

// private is a file of the journal's.
func private() State { return State{Kind: File, Mode: 0o600, UID: os.Geteuid(), GID: os.Getegid()} }

// writeFile puts a file into a folder, all of it or nothing.
func writeFile(folder *os.Root, name string, content []byte, want State, sync bool) (err error) {
	if err := clear(folder, name); err != nil {
		return err
	}
	file, err := folder.OpenFile(beside(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, clear(folder, name))
		}
	}()
	defer file.Close()
	if want.UID != os.Geteuid() || want.GID != os.Getegid() {
		if err := file.Chown(want.UID, want.GID); err != nil {
			return err
		}
	}
	if err := file.Chmod(want.Mode); err != nil { // behind chown(2), which takes the setuid bits away
		return err
	}
	if _, err := file.Write(content); err != nil {
		return err
	}
	if sync {
		if err := file.Sync(); err != nil {
			return err
		}
	}
	step()
	return folder.Rename(beside(name), name)
}

// step is called where a test ends the process.
var step = func() {}

// syncFolder has the names in a folder written to the disk.
func syncFolder(folder *os.Root, name string) error {
	opened, err := folder.Open(name)
	if err != nil {
		return err
	}
	defer opened.Close()
	if err := opened.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // a file system that knows no such thing
		return err
	}
	return nil
}
