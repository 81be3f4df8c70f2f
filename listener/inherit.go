package listener

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
)

// ErrNoSockets says that nobody passed sockets to this process.
var ErrNoSockets = errors.New("no sockets were passed")

// Inherit takes the sockets that systemd passes (sd_listen_fds(3)), once: it
// removes LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PIDFDID from the
// environment. Each socket is verified; refused holds a sentence for each that
// is not a listening TCP or unix socket, and those are closed. Without any passed
// socket the error is ErrNoSockets.
func Inherit() (sockets Set, refused []error, err error) {
	files := activation.Files(true)
	// go-systemd leaves this one, which systemd 258 added.
	if err := os.Unsetenv("LISTEN_PIDFDID"); err != nil {
		return nil, nil, fmt.Errorf("clean the environment: %w", err)
	}
	if len(files) == 0 {
		return nil, nil, ErrNoSockets
	}
	for i, file := range files {
		socket, err := newSocket(file)
		if err == nil && slices.Contains(sockets.Addresses(), socket.Address) {
			err = fmt.Errorf("listens on %s a second time", socket.Address)
		}
		if err != nil {
			refused = append(refused, fmt.Errorf("passed descriptor %d (%s) %w: the socket unit should have nothing but "+
				"ListenStream= lines with an IP address and a port or a path, and Accept=no", i+3, file.Name(), err))
			_ = file.Close() // it may not be open at all
			continue
		}
		if name := file.Name(); name != fmt.Sprintf("LISTEN_FD_%d", i+3) { // go-systemd's own
			socket.Name = name
		}
		sockets = append(sockets, socket)
	}
	return sockets, refused, nil
}
