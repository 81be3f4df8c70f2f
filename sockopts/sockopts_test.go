package sockopts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func listening(t *testing.T, family int) (fd int) {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	var name unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if family == unix.AF_INET6 {
		name = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	}
	if err := unix.Bind(fd, name); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	return fd
}

// changes are what a worker does to its listener, and a value that no socket has by itself.
var changes = map[string]func(fd int) error{
	"SO_LINGER": func(fd int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	},
	"SO_RCVTIMEO": func(fd int) error {
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 7})
	},
	"SO_SNDTIMEO": func(fd int) error {
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 7})
	},
	"SO_RCVBUF":      func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 30000) },
	"SO_SNDBUF":      func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 30000) },
	"TCP_CONGESTION": func(fd int) error { return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") },
}

// values are for the options that do not take a 3.
var values = map[struct{ level, name int }]int{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}: 1, {unix.SOL_SOCKET, unix.SO_OOBINLINE}: 1, {unix.IPPROTO_TCP, unix.TCP_NODELAY}: 1,
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP}: 9000, {unix.IPPROTO_IP, unix.IP_TOS}: 0x10, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS}: 0x10,
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG}: 1000,
}

func init() {
	for _, option := range integers {
		value := cmp.Or(values[option], 3)
		changes[fmt.Sprintf("option %d of level %d", option.name, option.level)] = func(fd int) error {
			return unix.SetsockoptInt(fd, option.level, option.name, value)
		}
	}
}

// TestTakenBack: what somebody has set is seen, is taken back, and is copied to another socket.
func TestTakenBack(t *testing.T) {
	t.Parallel()
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fd := listening(t, unix.AF_INET6)
			before := Read(fd)
			if err := change(fd); err != nil {
				t.Fatal(err)
			}
			changed := Read(fd)
			if same(before, changed) {
				t.Fatalf("it is not seen that it was set: %+v", changed)
			}
			var kept State
			if text, err := json.Marshal(changed); err != nil || json.Unmarshal(text, &kept) != nil || !same(kept, changed) {
				t.Errorf("as text it is %s (%v), which is %+v, want %+v", text, err, kept, changed)
			}
			if other := listening(t, unix.AF_INET6); changed.Apply(other) == 0 || !same(Read(other), changed) {
				t.Errorf("another socket gets\n%+v, want\n%+v", Read(other), changed)
			}
			before.Apply(fd)
			if now := Read(fd); !same(now, before) && name != clamped {
				t.Errorf("it is not taken back:\n%+v, want\n%+v", now, before)
			}
			if n := before.Apply(fd); n > 0 && name != clamped {
				t.Errorf("%d options are set again", n)
			}
		})
	}
}

// TestOver: of two who have set different options each keeps what it has set, and the later one's counts of the same.
func TestOver(t *testing.T) {
	t.Parallel()
	fresh := Read(listening(t, unix.AF_INET6))
	for first, change := range changes {
		fd := listening(t, unix.AF_INET6)
		if err := change(fd); err != nil {
			t.Fatal(err)
		}
		base := Read(fd)
		if got := fresh.Over(base, fresh); !same(got, base) {
			t.Errorf("%s: over it nothing is\n%+v, want\n%+v", first, got, base)
		}
		if got := base.Over(fresh, fresh); !same(got, base) {
			t.Errorf("%s: over nothing it is\n%+v, want\n%+v", first, got, base)
		}
	}
	both := listening(t, unix.AF_INET6)
	set := func(fd, level, name, value int) {
		t.Helper()
		if err := unix.SetsockoptInt(fd, level, name, value); err != nil {
			t.Fatal(err)
		}
	}
	one, other := listening(t, unix.AF_INET6), listening(t, unix.AF_INET6)
	for _, fd := range []int{one, both} {
		set(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 30000)
	}
	set(one, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 7)
	for _, fd := range []int{other, both} {
		set(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 8)
		set(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 40000)
	}
	if got, want := Read(other).Over(Read(one), fresh), Read(both); !same(got, want) {
		t.Errorf("it is\n%+v, want\n%+v", got, want)
	}
}

// TestSegment: the size of a segment that is taken back binds no connection any more.
func TestSegment(t *testing.T) {
	t.Parallel()
	fd := listening(t, unix.AF_INET)
	before := Read(fd)
	segment := func() int {
		t.Helper()
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(client)
		at, err := unix.Getsockname(fd)
		if err == nil {
			err = unix.Connect(client, at)
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := unix.GetsockoptTCPInfo(client, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Snd_mss)
	}
	free := segment()
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1000); err != nil {
		t.Fatal(err)
	}
	if bound := segment(); bound > 1000 || free <= 1000 {
		t.Fatalf("it is %d, and %d before it was set", bound, free)
	}
	before.Apply(fd)
	if now := segment(); now != free {
		t.Errorf("it is %d, want %d", now, free)
	}
}

// clamped is what the kernel takes back from nobody.
var clamped = fmt.Sprintf("option %d of level %d", unix.TCP_WINDOW_CLAMP, unix.IPPROTO_TCP)

func same(a, b State) bool {
	if (a.linger == nil) != (b.linger == nil) || a.linger != nil && *a.linger != *b.linger {
		return false
	}
	a.linger, b.linger = nil, nil
	return a == b
}

// TestOtherFamilies: an option that one of the sockets cannot have is left out.
func TestOtherFamilies(t *testing.T) {
	t.Parallel()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	ipv4, ipv6 := listening(t, unix.AF_INET), listening(t, unix.AF_INET6)
	before := Read(ipv4)
	Read(pair[0]).Apply(ipv4)
	if now := Read(ipv4); now.integers != before.integers || now.congestion != before.congestion {
		t.Errorf("a unix socket's options change a TCP socket's:\n%+v\n%+v", now, before)
	}
	if err := unix.SetsockoptInt(ipv4, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		t.Fatal(err)
	}
	if changed := Read(ipv4).Apply(ipv6); changed != 1 {
		t.Errorf("%d options are changed, want TCP_NODELAY alone", changed)
	}
	if changed := (State{}).Apply(ipv6); changed != 0 {
		t.Errorf("no options change %d", changed)
	}
}
