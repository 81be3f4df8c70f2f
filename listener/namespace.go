package listener

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Elsewhere reports whether the socket lives in another network namespace than
// this process: what the kernel tells about connections here is then not about
// this socket's. A kernel before 5.14 cannot say, which counts as here.
func (s *Socket) Elsewhere() (bool, error) {
	var theirs uint64
	err := s.control(func(fd int) (err error) {
		theirs, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
		return err
	})
	if errors.Is(err, unix.ENOPROTOOPT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the network namespace of %s: %w", s.Address, err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, fmt.Errorf("open a socket to compare network namespaces: %w", err)
	}
	defer unix.Close(fd)
	ours, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return false, fmt.Errorf("read the own network namespace: %w", err)
	}
	return ours != theirs, nil
}
