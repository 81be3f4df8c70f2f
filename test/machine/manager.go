package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

const managerName = "org.freedesktop.systemd1"

// dialManager connects to the manager's private socket, as systemctl does for root: no bus is needed, and all signals come
// unasked. systemd hangs up on a peer whose pid it cannot see (unix(7), SO_PEERCRED), so a process in the machine's PID
// namespace makes the connection, passes it on, and lives until hangUp.
func (s *Scope) dialManager(ctx context.Context) (conn *dbus.Conn, hangUp func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	defer theirs.Close()
	path := s.machine.Root() + s.RuntimeDir() + "/systemd/private"
	// The mount namespace stays the host's: there the test binary is, and path leads into the machine.
	dialer := exec.Command("nsenter", "--target", strconv.Itoa(s.machine.pid), "--pid", "--", self, dialerRole, path)
	dialer.Stdin = theirs
	dialer.Env = selfEnv()
	lifeline, err := net.FileConn(ours)
	if err != nil {
		return nil, nil, err
	}
	if err := dialer.Start(); err != nil {
		lifeline.Close()
		return nil, nil, err
	}
	// Else the end of the dialer could not be seen.
	theirs.Close()
	stop := context.AfterFunc(ctx, func() { lifeline.Close() })
	hangUp = func() {
		stop()
		if conn != nil {
			conn.Close()
		}
		lifeline.Close()
		// The dialer ends now, and nsenter with it: not sooner, or the dialer would go to the host's PID 1, and the machine could
		// not end before that one reaps it. But when systemd stops all processes (systemctl poweroff), nsenter stops itself as its
		// child did, and stays.
		stuck := time.AfterFunc(5*time.Second, func() { _ = dialer.Process.Kill() })
		defer stuck.Stop()
		_ = dialer.Wait()
	}
	private, err := receive(lifeline.(*net.UnixConn))
	if err == nil {
		conn, err = dbus.DialUnix(private, dbus.WithContext(ctx))
	}
	if err == nil {
		err = conn.Auth([]dbus.Auth{dbus.AuthExternal("0")})
	}
	if err == nil {
		err = prod(conn)
	}
	if err != nil {
		hangUp()
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", path, err), ctx.Err())
	}
	return conn, hangUp, nil
}

// prod sends a message that asks for nothing and is longer than what systemd reads at once while it authenticates (256
// bytes in 252, bus-socket.c). A shorter first message that comes together with the end of the authentication would stay in
// that buffer until another one follows: measured, one WaitUnit in six got no answer.
func prod(conn *dbus.Conn) error {
	ping := conn.Object(managerName, "/").Call("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, strings.Repeat(" ", 4096))
	return ping.Err
}

// receive takes the connection that dial sends, or its error.
func receive(lifeline *net.UnixConn) (*net.UnixConn, error) {
	said, control := make([]byte, 1024), make([]byte, unix.CmsgSpace(4))
	n, controlLen, _, _, err := lifeline.ReadMsgUnix(said, control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New(string(said[:n])), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fds[0]), "manager")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

// dial is the test binary executed again in a machine's PID namespace: it sends a connection to the socket at path, or an
// error, over its standard input, and ends when that closes.
func dial(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		_, _ = os.Stdin.WriteString(err.Error())
		return err
	}
	file, err := conn.File()
	if err != nil {
		return err
	}
	// A stream carries descriptors only beside a byte.
	if err := unix.Sendmsg(0, []byte{0}, unix.UnixRights(int(file.Fd())), nil, 0); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
