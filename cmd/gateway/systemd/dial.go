package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"

	"openclaw-gateway/cmd/gateway/peer"
)

// managerName is systemd's name on a bus, and what its interfaces begin with: org.freedesktop.systemd1(5).
const managerName = "org.freedesktop.systemd1"

// systemBus is where those who are not root reach the system's manager (sd_bus_open_system(3)).
const systemBus = "/run/dbus/system_bus_socket"

// socket is the manager's own socket, which it answers on without a bus, to root or to its user alone. A user's is found
// where nobody has said where it is, too (su, cron).
func (m Manager) socket() string {
	if !m.User {
		return "/run/systemd/private"
	}
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if runtime == "" || m.UID != os.Geteuid() {
		runtime = filepath.Join("/run/user", strconv.Itoa(m.UID))
	}
	return filepath.Join(runtime, "systemd/private")
}

// connect connects to a socket on which a process of the manager's user listens, and returns that process.
func (m Manager) connect(ctx context.Context, path string) (net.Conn, int, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, 0, err
	}
	credentials, err := peer.Of(conn)
	// In the folders of the system nobody else can listen.
	if err == nil && m.User && int(credentials.Uid) != m.UID {
		err = fmt.Errorf("%s: a process of user %s listens there", path, UserName(int(credentials.Uid)))
	}
	if err != nil {
		_ = conn.Close()
		return nil, 0, err
	}
	return conn, int(credentials.Pid), nil
}

// PID returns the process of the manager itself, also where its descriptors may not be looked into. A user's is told by
// its private socket: SO_PEERCRED names whoever listens there (unix(7)). The error says that no such manager runs.
func (m Manager) PID() (int, error) {
	if !m.User {
		return 1, nil
	}
	conn, pid, err := m.connect(context.Background(), m.socket())
	if err != nil {
		return 0, fmt.Errorf("look for the manager of uid %d: %w", m.UID, err)
	}
	return pid, conn.Close()
}

func (m Manager) overBus() bool { return !m.User && os.Geteuid() != 0 }

// dial opens a connection for questions. It ends with the context.
func (m Manager) dial(ctx context.Context) (*dbus.Conn, error) {
	path, greet := m.socket(), ping
	if m.overBus() {
		path, greet = systemBus, (*dbus.Conn).Hello
	}
	raw, _, err := m.connect(ctx, path)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(raw, dbus.WithContext(ctx))
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	// By number: to look the name up can need the network.
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = greet(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// ping sends a message that asks for nothing and is longer than what systemd reads at once while it authenticates (256
// bytes in 252, bus-socket.c): a shorter first one that comes together with the end of the authentication would wait in
// that buffer for another.
func ping(conn *dbus.Conn) error {
	padding := strings.Repeat(" ", 4096)
	return conn.Object(managerName, "/").Call("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, padding).Err
}
