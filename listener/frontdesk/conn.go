package frontdesk

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

// conn is an accepted connection. net.FileConn would make it one too, but by
// duplicating the descriptor: when that was the last one, the client would be
// lost after it was accepted. An os.File takes it as it is.
type conn struct {
	file          *os.File
	local, remote net.Addr
	once          sync.Once
	leave         func() // gives the place free
	heard         bool   // something has been read
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	if !c.heard && n > 0 && p[0] == tlsHandshake {
		return 0, c.hangUp()
	}
	c.heard = c.heard || n > 0
	return n, c.wrap("read", err)
}

// tlsHandshake is the first byte of a client that speaks TLS, RFC 8446 section 5.1. No request of HTTP begins with it.
const tlsHandshake = 0x16

// hangUp ends a connection that cannot be answered, cleanly: a close before all was read would be a reset.
func (c *conn) hangUp() error {
	_ = c.CloseWrite()
	// Until the client closes too, or the time for a header is over.
	_, _ = io.Copy(io.Discard, c.file)
	return io.EOF
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.file.Write(p)
	return n, c.wrap("write", err)
}

// wrap makes a net.Error of it: net/http answers a client that was silent for
// too long with 400, unless it knows the error as a time-out.
func (c *conn) wrap(op string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return err
	}
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

func (c *conn) Close() error {
	err := c.file.Close()
	c.once.Do(c.leave)
	return err
}

// CloseWrite is what net/http calls before it waits for a client that is still
// sending, so that it reads the answer before it sees a reset.
func (c *conn) CloseWrite() error {
	return listener.Control(c.file, func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) })
}

func (c *conn) LocalAddr() net.Addr                { return c.local }
func (c *conn) RemoteAddr() net.Addr               { return c.remote }
func (c *conn) SetDeadline(t time.Time) error      { return c.file.SetDeadline(t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.file.SetReadDeadline(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.file.SetWriteDeadline(t) }
