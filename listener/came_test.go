package listener

import (
	"bytes"
	"cmp"
	"testing"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// TestCame: what the worker of a launcher that was killed has left on a socket is not the socket's own for the next launcher. It is for
// one that has found other sockets, or has been told nothing.
func TestCame(t *testing.T) {
	t.Parallel()
	first, err := Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer first.File.Close()
	another, err := Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer another.File.Close()
	kept, err := Set{first}.Came(nil)
	if err != nil {
		t.Fatal(err)
	}
	others, err := Set{another}.Came(nil)
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(`{"boot":"`)
	if !bytes.HasPrefix(kept, text) {
		t.Fatalf("%s is kept", kept)
	}
	elsewhere := append([]byte(`{"boot":"another`), kept[len(text)+1:]...)
	set := func(deferring int, nonblocking bool) {
		t.Helper()
		err := first.control(func(fd int) error {
			return cmp.Or(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferring), unix.SetNonblock(fd, nonblocking))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		kept []byte
		ours bool // it is known in which state the socket came
	}{
		"the same socket": {kept, true}, "another one": {others, false}, "nothing": {nil, false}, "nonsense": {[]byte("{"), false}, "another boot": {elsewhere, false},
	} {
		set(60, true)
		next, err := newSocket(first.File)
		if err != nil {
			t.Fatal(err)
		}
		now, err := Set{next}.Came(test.kept)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(now, kept) != test.ours {
			t.Errorf("%s: what is kept is now\n%s, and was\n%s", name, now, kept)
		}
		if err := next.Restore(); err != nil {
			t.Fatal(err)
		}
		err = next.control(func(fd int) error {
			deferring, optionErr := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT)
			flags, flagsErr := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if (deferring == 0) != test.ours || (flags&unix.O_NONBLOCK == 0) != test.ours {
				t.Errorf("%s: TCP_DEFER_ACCEPT is %d, the flags are %#o", name, deferring, flags)
			}
			return cmp.Or(optionErr, flagsErr)
		})
		if err != nil {
			t.Fatal(err)
		}
		set(0, false)
	}
}
