package listener

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// sightings are the clients in the queue of a unix socket, each with the time at which it was first seen there: the kernel does
// not tell since when one waits.
type sightings struct {
	mu    sync.Mutex
	since map[uint64]time.Time // by the inode of the client's end
}

// oldest is since when the client waits that was seen first of those that are there now; zero where none waits, or none can be
// seen. It counts from the first look that has seen it.
func (s *sightings) oldest(clients []uint64, now time.Time) (since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting := map[uint64]time.Time{}
	for _, client := range clients {
		if client == 0 {
			continue // it has gone, and stands in the queue all the same
		}
		first, again := s.since[client]
		if !again {
			first = now
		}
		if waiting[client] = first; since.IsZero() || first.Before(since) {
			since = first
		}
	}
	s.since = waiting
	return since
}

// unixQueue is Queue of a unix socket. Where the kernel tells nobody, it is whether somebody waits.
func (s *Socket) unixQueue() (queued, backlog int, err error) {
	if clients, limit, err := sockdiag.UnixQueue(s.Inode); err == nil {
		return len(clients), limit, nil
	}
	err = s.control(func(fd int) error {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, err := unix.Poll(polled, 0)
		queued = int(polled[0].Revents & unix.POLLIN / unix.POLLIN)
		return err
	})
	return queued, s.Backlog(), err
}

// Waits is for how long a client is known to have stood in the queue of a unix socket, and whether one does; of another socket
// the kernel tells, see Oldest.
func (s *Socket) Waits() (waited time.Duration, somebody bool) {
	if !s.Address.IsUnix() {
		return 0, false
	}
	clients, _, err := sockdiag.UnixQueue(s.Inode)
	if err != nil {
		return 0, false
	}
	now := time.Now()
	since := s.seen.oldest(clients, now)
	return now.Sub(since), !since.IsZero()
}

// canConnect reports whether this process can connect to a unix socket at its path: the file may be another's by now, or may
// not be for this user.
func (s *Socket) canConnect() bool {
	path := s.Address.Path()
	return sockdiag.UnixAtPath(s.Inode, path) && unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS) == nil
}

// bindUnix listens at a path as systemd would for the socket unit. A socket file on which nobody listens is replaced; anything
// else stays, and is unix.EADDRINUSE.
func bindUnix(address netaddr.Address, access netaddr.Access) (*Socket, error) {
	mode, uid, gid, err := numbers(access)
	if err != nil {
		return nil, err
	}
	path := address.Path()
	directory, err := directoryOf(path)
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	file := os.NewFile(uintptr(fd), address.String())
	fail := func(err error) (*Socket, error) { return nil, errors.Join(err, file.Close()) }
	// The file is made with the mode of the socket, less the umask: nobody else connects before the mode and the owner are
	// what they shall be.
	if err := unix.Fchmod(fd, 0o600); err != nil {
		return fail(os.NewSyscallError("fchmod", err))
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fail(os.NewSyscallError("bind", err))
	}
	made, err := os.Lstat(path)
	if err != nil {
		return fail(err)
	}
	fail = func(err error) (*Socket, error) { return nil, errors.Join(err, removeSame(path, made), file.Close()) }
	if now, err := directoryOf(path); err != nil || !os.SameFile(now, directory) {
		return fail(fmt.Errorf("%s has become another directory meanwhile", filepath.Dir(path)))
	}
	if err := unix.Listen(fd, Backlog); err != nil {
		return fail(os.NewSyscallError("listen", err))
	}
	if err := grant(path, mode, uid, gid); err != nil {
		return fail(err)
	}
	socket, err := newSocket(file)
	if err != nil {
		return fail(err)
	}
	socket.made = made
	return socket, nil
}

// Grant gives a unix socket that was bound here another owner and mode.
func (s *Socket) Grant(access netaddr.Access) error {
	if s.made == nil {
		return nil
	}
	if access.User == "" {
		access.User = strconv.Itoa(os.Geteuid())
	}
	if access.Group == "" {
		access.Group = strconv.Itoa(os.Getegid())
	}
	if err := GrantAt(s.Address.Path(), access); err != nil {
		return fmt.Errorf("listen on %s: %w", s.Address, err)
	}
	return nil
}

// GrantAt gives the unix socket at an absolute path an owner and a mode. What is no socket, is a symlink or behind one that somebody
// else could have made, or has a second name stays as it is: whoever can write to a directory could have put it there.
func GrantAt(path string, access netaddr.Access) error {
	mode, uid, gid, err := numbers(access)
	if err != nil {
		return err
	}
	return grant(path, mode, uid, gid)
}

// Lacks says what the file of a unix socket has instead of an owner, by number, and a mode; "" where it has them, or cannot be
// seen.
func (s *Socket) Lacks(access netaddr.Access) string {
	info, err := os.Stat(s.Address.Path())
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return ""
	}
	mode, uid, gid, err := numbers(access)
	if err != nil {
		return err.Error()
	}
	var lacks []string
	if has := uint32(info.Mode().Perm()); has != mode {
		lacks = append(lacks, fmt.Sprintf("mode %04o", has))
	}
	owner := info.Sys().(*syscall.Stat_t)
	if uid >= 0 && int(owner.Uid) != uid {
		lacks = append(lacks, fmt.Sprintf("user %d", owner.Uid))
	}
	if gid >= 0 && int(owner.Gid) != gid {
		lacks = append(lacks, fmt.Sprintf("group %d", owner.Gid))
	}
	return strings.Join(lacks, ", ")
}

// Unlink removes the file of a unix socket that was bound here, unless somebody has put another one there.
func (s *Socket) Unlink() error {
	if s.made == nil {
		return nil
	}
	return removeSame(s.Address.Path(), s.made)
}

func removeSame(path string, made os.FileInfo) error {
	now, err := os.Lstat(path)
	if err != nil || !os.SameFile(now, made) {
		return nil // gone, or another's
	}
	return os.Remove(path)
}

// removeStale removes a socket at a path on which nobody listens.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%s is there and no socket: it is not removed, name another path or remove it yourself", path)
	}
	listening, err := sockdiag.Listening(netaddr.Unix(path))
	if err == nil && len(listening) > 0 {
		return unix.EADDRINUSE
	}
	// Of somebody in another network namespace the kernel does not tell, but connects to it.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); {
	case errors.Is(err, unix.ECONNREFUSED):
		return removeSame(path, info)
	case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EPROTOTYPE):
		return unix.EADDRINUSE
	default:
		return fmt.Errorf("see whether somebody listens there: %w", os.NewSyscallError("connect", err))
	}
}

// directoryOf is the directory of a path. No symlink leads to it that somebody else could have made: one is followed only in a
// directory where nobody but root and this user can write.
func directoryOf(path string) (os.FileInfo, error) {
	directory, err := withoutLinks(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(directory)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", directory)
	}
	return info, err
}

// withoutLinks is the path of a directory with the symlinks followed that directoryOf follows; another one is an error.
func withoutLinks(directory string) (string, error) {
	for followed := 0; ; followed++ {
		link, target, err := firstLink(directory)
		if err != nil || link == "" {
			return directory, err
		}
		if followed == mostLinks {
			return "", &os.PathError{Op: "follow", Path: directory, Err: unix.ELOOP}
		}
		above, err := os.Stat(filepath.Dir(link))
		if err != nil {
			return "", err
		}
		if othersWrite(above.Sys().(*syscall.Stat_t)) {
			return "", fmt.Errorf("%s is a symlink in a directory in which others can write: name the path without it", link)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		directory = filepath.Join(target, strings.TrimPrefix(directory, link))
	}
}

// openDirectory opens the directory of an absolute path, to be looked at, as directoryOf finds it. What has become a symlink
// since is not followed.
func openDirectory(path string) (fd int, err error) {
	directory, err := withoutLinks(filepath.Dir(path))
	if err != nil {
		return -1, err
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err = unix.Open("/", flags, 0)
	for name := range strings.FieldsFuncSeq(directory, func(r rune) bool { return r == '/' }) {
		if err != nil {
			break
		}
		above := fd
		fd, err = unix.Openat(above, name, flags, 0)
		_ = unix.Close(above)
	}
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: directory, Err: err}
	}
	return fd, nil
}

// mostLinks is how many symlinks are followed, as in the kernel.
const mostLinks = 40

// firstLink is the first part of a directory's path that is a symlink, and where that leads; "" where none is.
func firstLink(directory string) (link, target string, err error) {
	for end := 1; end <= len(directory); end++ {
		if end < len(directory) && directory[end] != '/' {
			continue
		}
		part := directory[:end]
		info, err := os.Lstat(part)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return "", "", fmt.Errorf("there is no directory %s: make it first", part)
		case err != nil:
			return "", "", err
		case info.Mode().Type() == os.ModeSymlink:
			target, err := os.Readlink(part)
			return part, target, err
		}
	}
	return "", "", nil
}

func othersWrite(directory *syscall.Stat_t) bool {
	return directory.Uid != 0 && int(directory.Uid) != os.Geteuid() || directory.Mode&0o022 != 0
}

// numbers reads who may connect; -1 is whoever makes the socket.
func numbers(access netaddr.Access) (mode uint32, uid, gid int, err error) {
	number := func(text string, base, otherwise int) int {
		if text == "" {
			return otherwise
		}
		n, parseErr := strconv.ParseInt(text, base, 32)
		if parseErr != nil {
			err = fmt.Errorf("%q is no number", text)
		}
		return int(n)
	}
	mode, uid, gid = uint32(number(access.Mode, 8, 0o600)), number(access.User, 10, -1), number(access.Group, 10, -1)
	return mode, uid, gid, err
}

// grant gives the file of a socket an owner and a mode, in this order: a change of the owner may clear bits of the mode.
func grant(path string, mode uint32, uid, gid int) error {
	directory, err := openDirectory(path)
	if err != nil {
		return err
	}
	defer unix.Close(directory)
	fd, err := unix.Openat(directory, filepath.Base(path), unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK || stat.Nlink != 1 {
		return fmt.Errorf("%s is not the socket that was made there", path)
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
			return &os.PathError{Op: "chown", Path: path, Err: err}
		}
	}
	// fchmod(2) takes no such descriptor.
	if err := unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode); err != nil {
		return &os.PathError{Op: "chmod", Path: path, Err: err}
	}
	return nil
}
