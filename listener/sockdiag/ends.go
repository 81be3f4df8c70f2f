package sockdiag

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Ends tells when TCP sockets of this network namespace end. Nothing has to be asked for meanwhile: the kernel broadcasts
// every one that it destroys (SKNLGRP_INET_TCP_DESTROY of linux/sock_diag.h, Linux 4.3, which is what "ss --events" prints;
// no privilege is needed). A filter in the kernel leaves those on other ports asleep.
type Ends struct {
	addresses []netaddr.Address
	file      *os.File
	raw       syscall.RawConn
	buffer    []byte
}

// WatchEnds begins to watch what keeps the addresses from being bound, as Blocking finds it. The caller closes what it
// returns. It fails where the kernel has no sock_diag for TCP.
func WatchEnds(addresses ...netaddr.Address) (*Ends, error) {
	e, err := watchEnds(portsOf(addresses))
	if err != nil {
		return nil, err
	}
	e.addresses = addresses
	return e, nil
}

func watchEnds(ports []uint16) (_ *Ends, err error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open a sock_diag socket: %w", err)
	}
	e := &Ends{file: os.NewFile(uintptr(fd), "sock_diag"), buffer: make([]byte, 4096)}
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()
	// The filter comes first: without it the other ports would be told of in between.
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, portFilter(ports)); err != nil {
		return nil, fmt.Errorf("filter what sock_diag tells: %w", err)
	}
	const groups = 1<<(unix.SKNLGRP_INET_TCP_DESTROY-1) | 1<<(unix.SKNLGRP_INET6_TCP_DESTROY-1)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return nil, fmt.Errorf("ask sock_diag to tell of closed connections: %w", err)
	}
	e.raw, err = e.file.SyscallConn()
	return e, err
}

// Close ends the watch; a wait that is under way fails.
func (e *Ends) Close() error { return e.file.Close() }

// Next blocks until a socket has ended that has kept one of the addresses, since the last call that said so, or until the
// deadline. It reports whether one has, or perhaps has: the kernel has forgotten the other end of a connection that was
// reset.
func (e *Ends) Next(deadline time.Time) (ended bool, err error) {
	return e.next(deadline, func(ended entry) bool {
		return ended.remote.Port() == 0 && slices.ContainsFunc(e.addresses, ended.conflicts)
	})
}

// next is Next for those that count; the zero deadline is none, and one that has passed leaves what has been told already.
func (e *Ends) next(deadline time.Time, counts func(entry) bool) (ended bool, err error) {
	if err := e.file.SetReadDeadline(deadline); err != nil {
		return false, err
	}
	// At once: a read behind its deadline does not even look.
	if controlErr := e.raw.Control(func(fd uintptr) { ended, err = e.drain(int(fd), counts) }); ended || err != nil || controlErr != nil {
		return ended, errors.Join(err, controlErr)
	}
	readErr := e.raw.Read(func(fd uintptr) bool {
		ended, err = e.drain(int(fd), counts)
		return ended || err != nil
	})
	if errors.Is(readErr, os.ErrDeadlineExceeded) {
		readErr = nil
	}
	return ended, errors.Join(err, readErr)
}

// drain takes in all that the kernel has told, and reports whether something of it counts.
func (e *Ends) drain(fd int, counts func(entry) bool) (ended bool, err error) {
	for {
		n, _, err := unix.Recvfrom(fd, e.buffer, 0)
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
		messages, err := syscall.ParseNetlinkMessage(e.buffer[:n])
		if err != nil {
			return ended, fmt.Errorf("parse what sock_diag tells: %w", err)
		}
		for _, m := range messages {
			told, err := parseInetDiag(m.Data)
			if err != nil {
				return ended, err
			}
			if counts(told) {
				ended = true
			}
		}
	}
}

func portsOf(addresses []netaddr.Address) []uint16 {
	var ports []uint16
	for _, address := range addresses {
		if port := address.Port(); !address.IsUnix() && !slices.Contains(ports, port) {
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
