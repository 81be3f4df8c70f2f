package intercept

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// traits are what a socket is, as the rules want to know it.
type traits struct {
	domain, kind, protocol int
	ip                     netip.Addr // its own address, without a zone
	port                   uint16     // 0: it is not bound
	scope                  uint32
	v6only                 bool
	reusePort              bool
	device                 int    // the network interface that it is bound to; 0: none
	namespace              uint64 // of its network
	inode                  uint64
	nonblocking            bool
}

// look looks at a socket of this process's. The error is ENOTSOCK of what is none.
func look(fd int) (t traits, err error) {
	option := func(level, name int) (value int) {
		value, failed := unix.GetsockoptInt(fd, level, name)
		err = errors.Join(err, failed)
		return value
	}
	t.domain, t.kind, t.protocol = option(unix.SOL_SOCKET, unix.SO_DOMAIN), option(unix.SOL_SOCKET, unix.SO_TYPE), option(unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || t.domain != unix.AF_INET && t.domain != unix.AF_INET6 {
		return t, err
	}
	t.reusePort = option(unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0
	t.device = option(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if t.domain == unix.AF_INET6 {
		t.v6only = option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) != 0
	}
	namespace, cookieErr := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	name, nameErr := unix.Getsockname(fd)
	flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	var stat unix.Stat_t
	err = errors.Join(err, cookieErr, nameErr, flagsErr, unix.Fstat(fd, &stat))
	t.namespace, t.inode, t.nonblocking = namespace, stat.Ino, flags&unix.O_NONBLOCK != 0
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		t.ip, t.port = netip.AddrFrom4(name.Addr), uint16(name.Port)
	case *unix.SockaddrInet6:
		t.ip, t.port, t.scope = netip.AddrFrom16(name.Addr), uint16(name.Port), name.ZoneId
	}
	return t, err
}

// caller is a process that has made a call, and a duplicate of the descriptor that it has named.
type caller struct {
	process int
	pidfd   int // -1: it is closed, as fd
	fd      int // of this process's
}

func (c *caller) close() {
	c.letGo()
	if c.pidfd >= 0 {
		_ = unix.Close(c.pidfd)
	}
	c.pidfd = -1
}

// letGo closes the duplicate.
func (c *caller) letGo() {
	if c.fd >= 0 {
		_ = unix.Close(c.fd)
	}
	c.fd = -1
}

// fetch takes a duplicate of a thread's descriptor.
func fetch(tid, fd int) (c *caller, err error) {
	c = &caller{process: tid, fd: -1}
	if c.pidfd, err = unix.PidfdOpen(tid, 0); err != nil { // of a thread that is not its process's first
		if c.process, err = processOf(tid); err != nil {
			return nil, err
		}
		if c.pidfd, err = unix.PidfdOpen(c.process, 0); err != nil {
			return nil, os.NewSyscallError("pidfd_open", err)
		}
	}
	if c.fd, err = unix.PidfdGetfd(c.pidfd, fd, 0); err != nil {
		c.close()
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	return c, nil
}

// processOf is the process of a thread.
func processOf(tid int) (int, error) { return status(tid, "Tgid") }

// status is a number of those in proc_pid_status(5).
func status(tid int, name string) (int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(content), "\n"+name+":")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// closesOnExec reads a flag that belongs to the descriptor, which is the caller's, and not to the socket.
func closesOnExec(tid, fd int) (bool, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, fd))
	if err != nil {
		return false, err
	}
	_, rest, _ := strings.Cut("\n"+string(content), "\nflags:")
	line, _, _ := strings.Cut(rest, "\n")
	flags, err := strconv.ParseUint(strings.TrimSpace(line), 8, 64)
	return flags&unix.O_CLOEXEC != 0, err
}

// inodeAt is that of the socket at a descriptor of a process's, or a thread's; 0: there is none, or it cannot be seen.
func inodeAt(process, fd int) uint64 {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", process, fd))
	if err != nil {
		return 0
	}
	return inodeOf(link)
}

func inodeOf(link string) uint64 {
	text, socket := strings.CutPrefix(link, "socket:[")
	if !socket {
		return 0
	}
	inode, _ := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
	return inode
}
