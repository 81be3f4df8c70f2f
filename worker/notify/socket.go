package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/proctree"
)

// Socket is the launcher's own end of sd_notify(3) for one generation.
type Socket struct {
	Path string
	conn *net.UnixConn
}

// New makes the socket in the launcher's runtime directory, which
// only the launcher's user can enter.
func New(directory string, generation int) (*Socket, error) {
	n := &Socket{Path: filepath.Join(directory, fmt.Sprintf("notify-%d.sock", generation))}
	// One that a killed launcher left.
	if err := os.Remove(n.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("make the worker's notify socket: %w", err)
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var option error
		err := raw.Control(func(fd uintptr) { option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		return errors.Join(err, option)
	}}
	conn, err := config.ListenPacket(context.Background(), "unixgram", n.Path)
	if err != nil {
		return nil, fmt.Errorf("make the worker's notify socket: %w", err)
	}
	n.conn = conn.(*net.UnixConn)
	return n, nil
}

// Watch calls said with each line that the process or one that descends from it says,
// until the socket is closed. It reads on for as long as there is a worker: a
// sender blocks when a few messages stand unread (net.unix.max_dgram_qlen), and
// systemd-notify(1) waits until its last one, BARRIER=1, has been taken.
func (n *Socket) Watch(pid int, said func(line string)) {
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		size, controlSize, _, _, err := n.conn.ReadMsgUnix(message, control)
		if err != nil {
			return
		}
		if !proctree.Descends(senderOf(control[:controlSize]), pid) {
			continue
		}
		for line := range strings.SplitSeq(string(message[:size]), "\n") {
			said(line)
		}
	}
}

// Close ends Watch, and removes the socket.
func (n *Socket) Close() error {
	// net removes the file of a listening stream socket, not of this kind.
	return errors.Join(n.conn.Close(), os.Remove(n.Path))
}

// senderOf returns the pid that the kernel attests, 0 when it is not known.
func senderOf(control []byte) int {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, message := range messages {
		if credentials, err := unix.ParseUnixCredentials(&message); err == nil {
			return int(credentials.Pid)
		}
	}
	return 0
}
