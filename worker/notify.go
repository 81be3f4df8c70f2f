package worker

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// notifySocket is the launcher's own end of sd_notify(3) for one generation.
type notifySocket struct {
	conn *net.UnixConn
	path string
}

// newNotifySocket makes the socket in the launcher's runtime directory, which
// only the launcher's user can enter.
func newNotifySocket(directory string, generation int) (*notifySocket, error) {
	n := &notifySocket{path: filepath.Join(directory, fmt.Sprintf("notify-%d.sock", generation))}
	// One that a killed launcher left.
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make the worker's notify socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("make the worker's notify socket: %w", err)
	}
	n.conn = conn
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	var option error
	err = raw.Control(func(fd uintptr) { option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err := errors.Join(err, option); err != nil {
		return nil, errors.Join(fmt.Errorf("make the worker's notify socket: %w", err), n.Close())
	}
	return n, nil
}

// awaitReady returns nil when the process or one that descends from it has said
// READY=1, and an error when the socket has been closed.
func (n *notifySocket) awaitReady(pid int) error {
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		size, controlSize, _, _, err := n.conn.ReadMsgUnix(message, control)
		if err != nil {
			return fmt.Errorf("read the worker's notify socket: %w", err)
		}
		sender, err := senderOf(control[:controlSize])
		if err != nil {
			return err
		}
		ready := slices.Contains(strings.Split(string(message[:size]), "\n"), "READY=1")
		if ready && descends(sender, pid) {
			return nil
		}
	}
}

func (n *notifySocket) Close() error {
	// net removes the file of a listening stream socket, not of this kind.
	return errors.Join(n.conn.Close(), os.Remove(n.path))
}

func senderOf(control []byte) (pid int, err error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, fmt.Errorf("read who wrote to the worker's notify socket: %w", err)
	}
	for _, message := range messages {
		credentials, err := unix.ParseUnixCredentials(&message)
		if err == nil {
			return int(credentials.Pid), nil
		}
	}
	return 0, nil
}

// descends reports whether pid is ancestor or one of its descendants. Of a
// process that has ended nothing is known, so it is nobody's.
func descends(pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		process, err := procfs.NewProc(pid)
		if err != nil {
			return false
		}
		stat, err := process.Stat()
		if err != nil {
			return false
		}
		pid = stat.PPID
	}
	return false
}
