package sockdiag

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clients sees who is connected to listening sockets, whoever accepts there, and when a connection ends. The kernel
// tells of each end by itself, so nothing has to be asked for meanwhile, and no connection is too short to be noticed: it
// broadcasts every TCP socket that it destroys (SKNLGRP_INET_TCP_DESTROY of linux/sock_diag.h, Linux 4.3, which is what
// "ss --events" prints; no privilege is needed). A filter in the kernel leaves those on other ports asleep.
type Clients struct {
	sockets []Socket
	ignored map[uint64]bool // cookies
	file    *os.File
	raw     syscall.RawConn
	buffer  []byte
}

// connected are the states of linux/tcp_states.h in which a client is there or is still being sent something: also one
// that has said all it wants to say and waits for its answer, and one whose answer the worker has left to the kernel.
const connected = 1<<tcpEstablished | 1<<tcpFinWait1 | 1<<tcpFinWait2 | 1<<tcpCloseWait | 1<<tcpLastAck | 1<<tcpClosing

// WatchClients begins to watch the connections to the given listening sockets. The caller closes what it returns. It
// fails where the kernel has no sock_diag for TCP, or where the sockets belong to another network namespace than this
// process (PrivateNetwork=, systemd.exec(5)), whose connections cannot be seen.
func WatchClients(sockets []Socket) (_ *Clients, err error) {
	c := &Clients{sockets: sockets, ignored: map[uint64]bool{}, buffer: make([]byte, 4096)}
	listening, err := c.find(1 << tcpListen)
	if err != nil {
		return nil, err
	}
	for _, socket := range sockets {
		if !slices.ContainsFunc(listening, func(e entry) bool { return e.Inode == socket.Inode }) {
			return nil, fmt.Errorf("nobody is seen to listen on %s: does the socket belong to another network namespace (PrivateNetwork=)?",
				socket.Address)
		}
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	c.file = os.NewFile(uintptr(fd), "sock_diag")
	defer func() {
		if err != nil {
			_ = c.Close()
		}
	}()
	// The filter comes first: without it the other ports would be told of in between.
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, portFilter(c.ports())); err != nil {
		return nil, fmt.Errorf("filter what sock_diag tells: %w", err)
	}
	const groups = 1<<(unix.SKNLGRP_INET_TCP_DESTROY-1) | 1<<(unix.SKNLGRP_INET6_TCP_DESTROY-1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, fmt.Errorf("ask sock_diag to tell of closed connections: %w", err)
	}
	c.raw, err = c.file.SyscallConn()
	return c, err
}

// Close ends the watch; a call of Ended that is under way fails.
func (c *Clients) Close() error { return c.file.Close() }

// Connected returns how many clients are connected, those in the accept queues included.
func (c *Clients) Connected() (int, error) {
	entries, err := c.find(connected)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, e := range entries {
		// Without an owner it has been closed, and keeps nothing but its port from being used again.
		closed := e.state == tcpFinWait2 && e.Inode == 0
		if c.watches(e) && !closed && !c.ignored[e.cookie] {
			count++
		}
	}
	return count, nil
}

// Ignore leaves connections out that come from the given addresses and were given up there, whatever a server does with
// its end. One that is established belongs to somebody else, who has been given the port anew.
func (c *Clients) Ignore(remote []netip.AddrPort) error {
	entries, err := c.find(connected &^ (1 << tcpEstablished))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if c.watches(e) && slices.ContainsFunc(remote, func(own netip.AddrPort) bool { return asEntered(own) == e.remote }) {
			c.ignored[e.cookie] = true
		}
	}
	return nil
}

// Ended blocks until a connection has ended since the last call that said so, or until the deadline, which may have
// passed; zero: there is none. It reports whether one has.
func (c *Clients) Ended(deadline time.Time) (ended bool, err error) {
	if err := c.file.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	// At once: a read behind its deadline does not even look.
	if controlErr := c.raw.Control(func(fd uintptr) { ended, err = c.drain(int(fd)) }); ended || err != nil || controlErr != nil {
		return ended, errors.Join(err, controlErr)
	}
	readErr := c.raw.Read(func(fd uintptr) bool {
		ended, err = c.drain(int(fd))
		return ended || err != nil
	})
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		readErr = nil
	}
	return ended, errors.Join(err, readErr)
}

// drain takes in all that the kernel has told, and reports whether a client's connection has ended.
func (c *Clients) drain(fd int) (ended bool, err error) {
	for {
		n, _, err := unix.Recvfrom(fd, c.buffer, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return ended, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			// There was more than it could keep, netlink(7).
			ended = true
			continue
		case err != nil:
			return ended, os.NewSyscallError("recvfrom sock_diag", err)
		}
		messages, err := syscall.ParseNetlinkMessage(c.buffer[:n])
		if err != nil {
			return ended, fmt.Errorf("parse what sock_diag tells: %w", err)
		}
		for _, m := range messages {
			e, err := parseInetDiag(m.Data)
			if err != nil {
				return ended, err
			}
			if c.watches(e) && !c.ignored[e.cookie] {
				ended = true
			}
			delete(c.ignored, e.cookie)
		}
	}
}

// watches reports whether e is or was a connection to one of the sockets.
func (c *Clients) watches(e entry) bool {
	return e.remote.Port() != 0 && slices.ContainsFunc(c.sockets, func(s Socket) bool { return e.reaches(s.Address) })
}

// find returns the sockets in one of the states on the watched ports.
func (c *Clients) find(states uint32) ([]entry, error) {
	var all []entry
	for _, port := range c.ports() {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			entries, err := sockDiag(family, states, port)
			if err != nil {
				return nil, err
			}
			all = append(all, entries...)
		}
	}
	return all, nil
}

func (c *Clients) ports() []uint16 {
	var ports []uint16
	for _, socket := range c.sockets {
		if port := socket.Address.Port(); !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
	}
	return ports
}

// portFilter is a program for the kernel (bpf in linux/filter.h) that passes a netlink message of inet_diag on if its
// source port is one of those.
func portFilter(ports []uint16) *unix.SockFprog {
	const sourcePort = unix.SizeofNlMsghdr + uint32(unsafe.Offsetof(inetDiagMessage{}.ID)+unsafe.Offsetof(inetDiagSockID{}.SourcePort))
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: sourcePort}}
	for _, port := range ports {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: uint32(port)},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: math.MaxUint32})
	}
	program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}
