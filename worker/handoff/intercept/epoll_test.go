package intercept

import (
	"errors"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlacesOf: each descriptor of a socket is found with the sets that watch it there, and with no others.
func TestPlacesOf(t *testing.T) {
	t.Parallel()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	var more, sets [2]int
	for i := range more {
		var dupErr, setErr error
		more[i], dupErr = unix.FcntlInt(uintptr(socket), unix.F_DUPFD, 0) // not close-on-exec, as the first one is
		sets[i], setErr = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err := errors.Join(dupErr, setErr); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(more[i])
		defer unix.Close(sets[i])
	}
	for fd, watching := range map[int][]int{socket: {sets[0]}, more[0]: {sets[0], sets[1]}} {
		for _, set := range watching {
			if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd + set)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	found, err := placesOf(os.Getpid(), os.Getpid(), socket, inodeAt(os.Getpid(), socket))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int][]int{socket: {sets[0]}, more[0]: {sets[0], sets[1]}, more[1]: nil}
	if len(found) != len(want) || found[0].fd != socket {
		t.Errorf("it finds %+v, want %v", found, want)
	}
	for _, p := range found {
		var watching []int
		for _, w := range p.watches {
			watching = append(watching, w.set)
			if w.events&unix.EPOLLIN == 0 || w.data != uint64(p.fd+w.set) {
				t.Errorf("at %d set %d has events %x and data %d", p.fd, w.set, w.events, w.data)
			}
		}
		slices.Sort(watching)
		if !slices.Equal(watching, want[p.fd]) || p.cloexec != (p.fd == socket) {
			t.Errorf("at %d it finds %+v, want the sets %v", p.fd, p, want[p.fd])
		}
	}
}
