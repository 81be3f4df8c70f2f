package intercept_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/sockets"
)

// edge is something that a program does with an address of which the port is held.
type edge struct {
	name string
	do   func(port uint16) string
	// ours says that it has to come out as if nobody had the port; otherwise as for anybody else, for whom the launcher has it.
	ours bool
	// but is how it comes out instead, and is allowed to; "": it does not.
	but string
}

func named(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	return fmt.Sprint(err)
}

// socket makes one, and sets options of it.
func socket(domain, kind, protocol int, options ...func(fd int) error) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	for _, set := range options {
		if err := set(fd); err != nil {
			return fd, errors.Join(err, unix.Close(fd))
		}
	}
	return fd, nil
}

func with(level, name, value int) func(int) error {
	return func(fd int) error { return unix.SetsockoptInt(fd, level, name, value) }
}

var (
	reusePort = with(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	reuseAddr = with(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	v6only    = with(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	dual      = with(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
)

func tcp4(options ...func(int) error) int {
	fd, err := socket(unix.AF_INET, unix.SOCK_STREAM, 0, options...)
	if err != nil {
		panic(err)
	}
	return fd
}

func v4(ip string, port uint16) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: int(port), Addr: netip.MustParseAddr(ip).As4()}
}

func v6(ip string, port uint16) unix.Sockaddr {
	return &unix.SockaddrInet6{Port: int(port), Addr: netip.MustParseAddr(ip).As16()}
}

// shape is what can be seen of a socket that was bound: which address, and in which mode.
func shape(fd int) string {
	name, err := unix.Getsockname(fd)
	flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	cloexec, cloexecErr := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err := errors.Join(err, flagsErr, cloexecErr); err != nil {
		return err.Error()
	}
	text := ""
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		text = netip.AddrFrom4(name.Addr).String()
	case *unix.SockaddrInet6:
		text = netip.AddrFrom16(name.Addr).String()
	}
	return fmt.Sprintf("%s nonblock %t cloexec %t", text, flags&unix.O_NONBLOCK != 0, cloexec&unix.FD_CLOEXEC != 0)
}

// bound binds a new socket, and closes it.
func bound(domain, kind, protocol int, to func(port uint16) unix.Sockaddr, options ...func(int) error) func(uint16) string {
	return func(port uint16) string {
		fd, err := socket(domain, kind, protocol, options...)
		if err != nil {
			return "socket: " + named(err)
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, to(port)); err != nil {
			return named(err)
		}
		return shape(fd)
	}
}

func to4(ip string) func(uint16) unix.Sockaddr {
	return func(port uint16) unix.Sockaddr { return v4(ip, port) }
}

func to6(ip string) func(uint16) unix.Sockaddr {
	return func(port uint16) unix.Sockaddr { return v6(ip, port) }
}

// raw binds a new socket to an address as it is in memory.
func raw(domain int, address func(port uint16) []byte, length int) func(uint16) string {
	return func(port uint16) string {
		fd, err := socket(domain, unix.SOCK_STREAM, 0)
		if err != nil {
			return "socket: " + named(err)
		}
		defer unix.Close(fd)
		return rawly(fd, unsafe.Pointer(unsafe.SliceData(address(port))), length)
	}
}

func rawly(fd int, address unsafe.Pointer, length int) string {
	if _, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(address), uintptr(length)); errno != 0 {
		return named(errno)
	}
	return shape(fd)
}

// inet4 and inet6 are addresses in memory, with much behind them.
func inet4(port uint16) []byte {
	b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), port)
	return append(append(b, 127, 0, 0, 1), make([]byte, 200)...)
}

func inet6(port uint16) []byte {
	b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), port)
	b = append(append(b, 0, 0, 0, 0), netip.IPv6Loopback().AsSlice()...)
	return append(b, make([]byte, 200)...)
}

// after binds a first socket, and then does something with the address.
func after(options []func(int) error, then func(first int, port uint16) string) func(uint16) string {
	return func(port uint16) string {
		first := tcp4(options...)
		defer unix.Close(first)
		if err := unix.Bind(first, v4("127.0.0.1", port)); err != nil {
			return "first: " + named(err)
		}
		return then(first, port)
	}
}

func again(options ...func(int) error) func(int, uint16) string {
	return func(_ int, port uint16) string {
		return bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.1"), options...)(port)
	}
}

// inAnother has another process bind the address.
func inAnother(port uint16) string {
	output, err := program("bind", "127.0.0.1:"+strconv.Itoa(int(port))).Output()
	if err != nil {
		return err.Error()
	}
	return string(output)
}

func listening(fd int) bool {
	value, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && value != 0
}

var loopback4 = bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.1"))

// edges are of a port that is held on 127.0.0.1 and ::1.
var edges = []edge{
	{name: "the same", ours: true, do: loopback4},
	{name: "the same, after it was closed", ours: true, do: loopback4},
	{name: "::1", ours: true, do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::1"))},
	{name: "::1, v6only", ours: true, do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::1"), v6only)},
	{name: "TCP by number", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP, to4("127.0.0.1"))},
	{name: "MPTCP", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, to4("127.0.0.1"))},
	{name: "mapped", ours: true, do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::ffff:127.0.0.1"), dual), but: "127.0.0.1 nonblock false cloexec true"},
	{name: "nonblocking", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, to4("127.0.0.1"))},
	{name: "blocking again", ours: true, do: loopback4},
	{name: "not closed on exec", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.1"), keepOnExec)},
	{name: "nonblocking, not closed on exec", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, to4("127.0.0.1"), keepOnExec)},
	{name: "a whole server", ours: true, do: after([]func(int) error{reuseAddr}, func(fd int, port uint16) string {
		if err := unix.Listen(fd, 1); err != nil {
			return named(err)
		}
		return talk(fd, port)
	})},
	{name: "options", ours: true, do: after([]func(int) error{
		with(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), with(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1), with(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 77),
		with(unix.SOL_SOCKET, unix.SO_RCVBUF, 30000),
	}, optionsOf)},
	{name: "no options", ours: true, do: after(nil, optionsOf)},
	{name: "a watch from before", ours: true, do: watched},
	{name: "a watch of another one from before", ours: true, do: watchedBefore},
	{name: "a duplicate from before", ours: true, do: duplicate},
	{name: "two sockets", ours: true, do: after(nil, again())},
	{name: "two sockets, SO_REUSEADDR, one listens", ours: true, do: after([]func(int) error{reuseAddr}, func(fd int, port uint16) string {
		return fmt.Sprint(unix.Listen(fd, 1), again(reuseAddr)(fd, port))
	})},
	{name: "two sockets, SO_REUSEPORT", ours: true, do: after([]func(int) error{reusePort}, again(reusePort))},
	{name: "two sockets, SO_REUSEPORT of the second", ours: true, do: after(nil, again(reusePort))},
	{name: "two sockets, SO_REUSEPORT of the first", ours: true, do: after([]func(int) error{reusePort}, again())},
	{name: "three sockets, SO_REUSEPORT of two", ours: true, do: after([]func(int) error{reusePort}, func(fd int, port uint16) string {
		second := tcp4(reusePort)
		defer unix.Close(second)
		return fmt.Sprint(unix.Bind(second, v4("127.0.0.1", port)), again()(fd, port), again(reusePort)(fd, port))
	})},
	{name: "two sockets, SO_REUSEPORT, the first made non-blocking", ours: true, do: after([]func(int) error{reusePort}, func(fd int, port uint16) string {
		second := tcp4(reusePort)
		defer unix.Close(second)
		return fmt.Sprint(unix.SetNonblock(fd, true), unix.Bind(second, v4("127.0.0.1", port)), ", the first is ", shape(fd))
	})},
	{name: "SO_REUSEPORT, blocking again", ours: true, do: bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.1"), reusePort)},
	{name: "another process meanwhile", ours: true, do: after(nil, func(_ int, port uint16) string { return inAnother(port) })},
	{name: "another process", ours: true, do: inAnother},
	{name: "closed, but a child has it", ours: true, do: func(port uint16) string {
		fd := tcp4()
		if err := unix.Bind(fd, v4("127.0.0.1", port)); err != nil {
			return "first: " + named(err)
		}
		child := program("wait")
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
		stdin, pipeErr := child.StdinPipe()
		if err := errors.Join(pipeErr, child.Start(), child.ExtraFiles[0].Close()); err != nil {
			return err.Error()
		}
		first := loopback4(port)
		if err := errors.Join(stdin.Close(), child.Wait()); err != nil {
			return err.Error()
		}
		return first + ", " + loopback4(port)
	}},
	{name: "twice", ours: true, do: after(nil, func(fd int, port uint16) string {
		return named(unix.Bind(fd, v4("127.0.0.1", port)))
	}), but: "<nil>"}, // it cannot be told from a call that a signal has interrupted
	{name: "twice, elsewhere", ours: true, do: after(nil, func(fd int, port uint16) string { return named(unix.Bind(fd, v4("127.0.0.1", port+1))) })},
	{name: "longest address", ours: true, do: raw(unix.AF_INET, inet4, 128)},
	{name: "IPv6 as in RFC 2133", ours: true, do: raw(unix.AF_INET6, inet6, 24)},
	{name: "IPv6 with half a scope", ours: true, do: raw(unix.AF_INET6, inet6, 27)},
	{name: "at the end of a page", ours: true, do: func(port uint16) string { return atEnd(port, 16) }},

	{name: "over the end of a page", do: func(port uint16) string { return atEnd(port, 28) }},
	{name: "short", do: raw(unix.AF_INET, inet4, 15)},
	{name: "IPv6 too short", do: raw(unix.AF_INET6, inet6, 23)},
	{name: "too long", do: raw(unix.AF_INET, inet4, 129)},
	{name: "of negative length", do: raw(unix.AF_INET, inet4, -1)},
	{name: "no family", do: raw(unix.AF_INET, func(port uint16) []byte { return append([]byte{0, 0}, inet4(port)[2:]...) }, 16)},
	{name: "IPv4 for IPv6", do: raw(unix.AF_INET6, inet4, 28)},
	{name: "IPv6 for IPv4", do: raw(unix.AF_INET, inet6, 28)},
	{name: "nowhere", do: func(uint16) string { return rawly(tcp4(), nowhere(), 16) }},
	{name: "no descriptor", do: func(port uint16) string { return named(unix.Bind(9999, v4("127.0.0.1", port))) }},
	{name: "no socket", do: func(port uint16) string { return named(unix.Bind(0, v4("127.0.0.1", port))) }},
	{name: "mapped, v6only", do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::ffff:127.0.0.1"), v6only)},
	{name: "all of both", do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::"), dual)},
	{name: "all of both, MPTCP", do: bound(unix.AF_INET6, unix.SOCK_STREAM, unix.IPPROTO_MPTCP, to6("::"), dual)},
	{name: "all of IPv4, mapped", do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::ffff:0.0.0.0"), dual), but: "0.0.0.0 nonblock false cloexec true"},
	{name: "all of IPv6", do: bound(unix.AF_INET6, unix.SOCK_STREAM, 0, to6("::"), v6only)},
	{name: "all of IPv4", do: bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("0.0.0.0"))},
	{name: "another address", do: bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.2"))},
	{name: "port 0", do: func(uint16) string { return loopback4(0) }},
	{name: "UDP", do: bound(unix.AF_INET, unix.SOCK_DGRAM, 0, to4("127.0.0.1"))},
	{name: "SCTP", do: bound(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP, to4("127.0.0.1"))},
	{name: "raw", do: bound(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP, to4("127.0.0.1"))},
	{name: "unix", do: bound(unix.AF_UNIX, unix.SOCK_STREAM, 0, func(uint16) unix.Sockaddr {
		return &unix.SockaddrUnix{Name: "@openclaw-gateway edges " + strconv.Itoa(os.Getpid())}
	})},
	{name: "netlink", do: bound(unix.AF_NETLINK, unix.SOCK_RAW, 0, func(uint16) unix.Sockaddr { return &unix.SockaddrNetlink{Family: unix.AF_NETLINK} })},
	{name: "IPv4 as of a unix socket", do: raw(unix.AF_UNIX, inet4, 16)},
	{name: "bound elsewhere", do: func(port uint16) string {
		fd := tcp4()
		defer unix.Close(fd)
		return fmt.Sprint(named(unix.Bind(fd, v4("127.0.0.1", 0))), named(unix.Bind(fd, v4("127.0.0.1", port))))
	}},
	{name: "bound to a device", do: bound(unix.AF_INET, unix.SOCK_STREAM, 0, to4("127.0.0.1"), with(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 1))},
	{name: "in another network namespace", do: elsewhere},
	{name: "listen without bind", do: func(uint16) string {
		fd := tcp4()
		defer unix.Close(fd)
		return fmt.Sprint(unix.Listen(fd, 1), listening(fd))
	}},
	{name: "listen on nothing", do: func(uint16) string { return named(unix.Listen(9999, 1)) }},
	{name: "listen on no socket", do: func(uint16) string { return named(unix.Listen(0, 1)) }},
}

func keepOnExec(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	return err
}

// talk is what a client and a server on the socket say to each other.
func talk(fd int, port uint16) string {
	client := tcp4()
	defer unix.Close(client)
	if err := unix.Connect(client, v4("127.0.0.1", port)); err != nil {
		return "connect: " + named(err)
	}
	accepted, _, err := unix.Accept(fd)
	if err != nil {
		return "accept: " + named(err)
	}
	defer reset(accepted)
	if _, err := unix.Write(accepted, []byte("hello")); err != nil {
		return "write: " + named(err)
	}
	b := make([]byte, 10)
	n, err := unix.Read(client, b)
	return fmt.Sprintf("%s %v", b[:max(0, n)], err)
}

// reset ends a connection without a trace: one that is closed keeps its port for a minute.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// optionsOf are some that a connection has from its listener.
func optionsOf(fd int, port uint16) string {
	client := tcp4()
	defer unix.Close(client)
	if err := errors.Join(unix.Listen(fd, 5), unix.Connect(client, v4("127.0.0.1", port))); err != nil {
		return "connect: " + named(err)
	}
	accepted, _, err := unix.Accept(fd)
	if err != nil {
		return "accept: " + named(err)
	}
	defer reset(accepted)
	var values []int
	for _, option := range [][2]int{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.SOL_SOCKET, unix.SO_RCVBUF},
	} {
		value, _ := unix.GetsockoptInt(accepted, option[0], option[1])
		values = append(values, value)
	}
	if locks, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK); locks == 0 {
		values[3] = 0 // of the kernel's own choice
	}
	return fmt.Sprint(values)
}

// watched puts the socket into an epoll set before it is bound.
func watched(port uint16) string {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err.Error()
	}
	fd, client := tcp4(), tcp4()
	defer func() { _, _, _ = unix.Close(set), unix.Close(fd), unix.Close(client) }()
	err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Fd: 77, Pad: 78})
	if err := errors.Join(err, unix.Bind(fd, v4("127.0.0.1", port)), unix.Listen(fd, 5)); err != nil {
		return named(err)
	}
	if err := unix.EpollCtl(set, unix.EPOLL_CTL_MOD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 77, Pad: 78}); err != nil {
		return "modify: " + named(err)
	}
	if err := unix.Connect(client, v4("127.0.0.1", port)); err != nil {
		return "connect: " + named(err)
	}
	events := make([]unix.EpollEvent, 2)
	n, err := unix.EpollWait(set, events, 10_000)
	accepted, _, acceptErr := unix.Accept(fd)
	defer reset(accepted)
	return fmt.Sprint(n, err, events[0], acceptErr)
}

// duplicate binds by one descriptor of a socket, and serves by another one, that a set has watched since before.
func duplicate(port uint16) string {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err.Error()
	}
	fd := tcp4()
	other, err := unix.Dup(fd)
	defer func() { _, _, _ = unix.Close(set), unix.Close(fd), unix.Close(other) }()
	err = errors.Join(err, unix.EpollCtl(set, unix.EPOLL_CTL_ADD, other, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: 77}))
	if err := errors.Join(err, unix.Bind(fd, v4("127.0.0.1", port)), unix.Close(fd), unix.Listen(other, 5)); err != nil {
		return named(err)
	}
	client := tcp4()
	defer unix.Close(client)
	if err := unix.Connect(client, v4("127.0.0.1", port)); err != nil {
		return "connect: " + named(err)
	}
	events := make([]unix.EpollEvent, 2)
	n, err := unix.EpollWait(set, events, 10_000)
	accepted, _, acceptErr := unix.Accept(other)
	defer reset(accepted)
	return fmt.Sprint(shape(other), n, err, events[0], acceptErr)
}

// nowhere is an address of memory that nobody has.
func nowhere() unsafe.Pointer {
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		panic(err)
	}
	return unsafe.Pointer(unsafe.SliceData(page))
}

// atEnd has an address of 16 bytes at the end of what can be read.
func atEnd(port uint16, length int) string {
	size := os.Getpagesize()
	pages, err := unix.Mmap(-1, 0, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err.Error()
	}
	copy(pages[size-16:size], inet4(port))
	if err := unix.Mprotect(pages[size:], unix.PROT_NONE); err != nil {
		return err.Error()
	}
	fd := tcp4()
	defer unix.Close(fd)
	return rawly(fd, unsafe.Pointer(&pages[size-16]), length)
}

// elsewhere binds in a network of its own.
func elsewhere(port uint16) string {
	result := make(chan string)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is of no use to anybody else
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			result <- "unshare: " + named(err)
			return
		}
		fd := tcp4()
		defer unix.Close(fd)
		err := unix.Bind(fd, v4("127.0.0.1", port))
		result <- fmt.Sprint(named(err), listening(fd))
	}()
	return <-result
}

// doEdges does them all, and says how each came out.
func doEdges(port string) int {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return 2
	}
	// None of them may wait for ever.
	time.AfterFunc(time.Minute, func() { panic("an edge takes more than a minute") })
	results := map[string]string{}
	for _, e := range edges {
		results[e.name] = e.do(uint16(number))
	}
	if json.NewEncoder(os.Stdout).Encode(results) != nil {
		return 2
	}
	return 0
}

// TestEdges: what is ours comes out as if nobody had the port, and all else as for anybody.
func TestEdges(t *testing.T) {
	t.Parallel()
	compare(t, sockets.Hold(t, "127.0.0.1", "::1"), func(e edge) bool { return e.ours })
}

// TestWildcardEdges: the same where the wildcards are held, by one socket or by one of each family.
func TestWildcardEdges(t *testing.T) {
	t.Parallel()
	server, address := sockets.Server(t, "tcp", "[::]:0")
	file, err := server.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, test := range map[string]struct {
		held []sockets.Held
		ours []string
	}{
		"one":  {[]sockets.Held{{File: file, Address: address}}, []string{"all of both", "all of both, MPTCP"}},
		"each": {sockets.Hold(t, "0.0.0.0", "::"), []string{"all of both", "all of both, MPTCP", "all of IPv6", "all of IPv4", "all of IPv4, mapped"}},
	} {
		t.Run(name, func(t *testing.T) {
			compare(t, test.held, func(e edge) bool { return slices.Contains(test.ours, e.name) })
		})
	}
}

// compare does them all where the port is held, where somebody else has it, and where nobody has.
func compare(t *testing.T, held []sockets.Held, ours func(edge) bool) {
	t.Helper()
	port := strconv.Itoa(int(held[0].Address.Port()))
	w := start(t, held, "edges", port)
	got := results(t, w.output())
	w.ends(0)
	taken, err := program("edges", port).Output()
	if err != nil {
		t.Fatal(err)
	}
	nobodys, err := net.Listen("tcp", ":0") // free at every address
	if err != nil {
		t.Fatal(err)
	}
	if err := nobodys.Close(); err != nil {
		t.Fatal(err)
	}
	free, err := program("edges", strconv.Itoa(nobodys.Addr().(*net.TCPAddr).Port)).Output()
	if err != nil {
		t.Fatal(err)
	}
	asFree, asTaken := results(t, string(free)), results(t, string(taken))
	for _, e := range edges {
		want := asTaken[e.name]
		if ours(e) {
			want = asFree[e.name]
		}
		if ours(e) && e.but != "" {
			if want == e.but {
				t.Errorf("%s: the kernel says so too: %q", e.name, want)
			}
			want = e.but
		}
		if got[e.name] != want {
			t.Errorf("%s: %q, want %q", e.name, got[e.name], want)
		}
		t.Logf("%-45s %s", e.name, got[e.name])
	}
}

func results(t *testing.T, output string) (all map[string]string) {
	t.Helper()
	if err := json.Unmarshal([]byte(output), &all); err != nil {
		t.Fatalf("%v: %q", err, output)
	}
	return all
}
