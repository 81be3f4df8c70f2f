package notify

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
)

// Socket is the launcher's own end of sd_notify(3) for one generation.
type Socket struct {
	Path string
	conn *net.UnixConn

	pause passed.Pause

	mu      sync.Mutex
	flushes []chan struct{} // one for each flushText that is on its way
	ended   chan struct{}   // closed when Watch has returned
}

// flushText is what the launcher says to itself, to know that it has heard all that was said before.
const flushText = "GATEWAY_FLUSH=1"

// New makes the socket in the launcher's runtime directory. Everybody may write to it, for a worker may have become another
// user: who a sender is says the kernel.
func New(directory string, generation int) (*Socket, error) {
	n := &Socket{ended: make(chan struct{}), Path: filepath.Join(directory, fmt.Sprintf("notify-%d.sock", generation))}
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
	// Whatever the umask is.
	if err := os.Chmod(n.Path, 0o666); err != nil {
		return nil, errors.Join(fmt.Errorf("make the worker's notify socket: %w", err), n.Close())
	}
	return n, nil
}

// Watch calls said with each line that a process says which belongs to the worker,
// until the socket is closed. It reads on for as long as there is a worker: a
// sender blocks when a few messages stand unread (net.unix.max_dgram_qlen), and
// systemd-notify(1) waits until its last one, BARRIER=1, has been taken.
func (n *Socket) Watch(belongs func(pid int) bool, said func(pid int, line string)) {
	defer close(n.ended)
	defer n.pause.Leave()
	message, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		size, controlSize, _, _, err := n.conn.ReadMsgUnix(message, control)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			n.pause.Point()
			continue
		}
		if err != nil {
			return
		}
		sender, text := senderOf(control[:controlSize]), string(message[:size])
		if sender == os.Getpid() && text == flushText {
			n.flushed()
			continue
		}
		if !belongs(sender) {
			continue
		}
		for line := range strings.SplitSeq(text, "\n") {
			said(sender, line)
		}
	}
}

// Flush returns when Watch has taken in all that was said before.
func (n *Socket) Flush() {
	flush := make(chan struct{})
	n.mu.Lock()
	n.flushes = append(n.flushes, flush)
	n.mu.Unlock()
	conn, err := net.Dial("unixgram", n.Path)
	if err == nil {
		_, err = conn.Write([]byte(flushText))
		_ = conn.Close()
	}
	if err != nil {
		n.flushed() // who has removed the socket has kept everybody from it
	}
	select {
	case <-flush:
	case <-n.ended:
	}
}

func (n *Socket) flushed() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.flushes) > 0 {
		close(n.flushes[0])
		n.flushes = n.flushes[1:]
	}
}

// Close ends Watch, and removes the socket.
func (n *Socket) Close() error {
	// net removes the file of a listening stream socket, not of this kind.
	return errors.Join(n.conn.Close(), os.Remove(n.Path))
}

// Saved is a socket for the program that takes this one's place.
type Saved struct {
	Path string `json:"path"`
	FD   int    `json:"fd"`
}

// Suspend returns when Watch stands still, with nothing that it has read and not told, until resume is called.
func (n *Socket) Suspend(ctx context.Context) (resume func(), err error) {
	resume = func() {
		_ = n.conn.SetReadDeadline(time.Time{})
		n.pause.End()
	}
	if err := n.pause.Begin(ctx, func() { _ = n.conn.SetReadDeadline(time.Unix(1, 0)) }); err != nil {
		resume()
		return nil, fmt.Errorf("what the worker says is not taken in: %w", err)
	}
	return resume, nil
}

// Save passes the socket on.
func (n *Socket) Save(files *passed.Files) (saved Saved, err error) {
	saved.Path = n.Path
	saved.FD, err = files.Add(n.conn)
	return saved, err
}

// Resume takes a socket that was passed on.
func Resume(saved Saved) (*Socket, error) {
	file, err := passed.Take(saved.FD, "notify socket")
	if err != nil {
		return nil, err
	}
	defer file.Close() // what follows is a duplicate
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("take the worker's notify socket: %w", err)
	}
	is, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(errors.New("take the worker's notify socket: it is none"), conn.Close())
	}
	return &Socket{ended: make(chan struct{}), Path: saved.Path, conn: is}, nil
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
