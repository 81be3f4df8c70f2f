package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/procfs"
)

// patience is how long a request of the launcher's may go unanswered once the
// worker has taken it from the queue.
const patience = 5 * time.Second

// awaitAnswers returns nil when the worker has taken a request from the queue
// of every socket: the only way to see that a worker has adopted sockets when
// its handoff does not tell. One request at a time, because it stands in the
// same queue as the clients.
func awaitAnswers(ctx context.Context, spec Spec) error {
	for _, socket := range spec.Sockets {
		target := "http://" + dialAddress(socket.Address).String() + "/"
		_, err := exchange(ctx, http.MethodHead, target)
		if err := context.Cause(ctx); err != nil {
			return err
		}
		// Whatever came back came from a worker that accepted the connection:
		// an answer, one that is not HTTP, a closed connection, or silence
		// after the connection had left the queue. Only a connection that
		// could not be made says nothing.
		if dial := new(net.OpError); errors.As(err, &dial) && dial.Op == "dial" {
			return fmt.Errorf("see whether the worker accepts on %s: %w", socket.Address, err)
		}
	}
	return nil
}

// awaitPath returns nil when GET has been answered with 2xx or 3xx. said is
// called with what came instead.
func awaitPath(ctx context.Context, spec Spec, said func(string)) error {
	target, err := readyURL(spec)
	if err != nil {
		return err
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	for {
		answer, err := exchange(ctx, http.MethodGet, target)
		switch {
		case context.Cause(ctx) != nil:
			return context.Cause(ctx)
		case err != nil:
			said(fmt.Sprintf("GET %s: %v", target, err))
		default:
			if answer.StatusCode >= 200 && answer.StatusCode < 400 {
				return nil
			}
			said(fmt.Sprintf("GET %s was answered with %s", target, answer.Status))
		}
		// A worker that accepts and is not ready yet has nothing that could be
		// waited for, so it is asked again, while it starts and no longer.
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// exchange makes one request on a connection of its own and waits for the head
// of the answer for as long as the connection stands in the queue: one that is
// given up would stay there, in front of the clients.
func exchange(ctx context.Context, method, target string) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	connected := make(chan net.Conn, 1)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(got httptrace.GotConnInfo) { connected <- got.Conn },
	})
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "gateway-ready-probe")
	req.Close = true
	transport := &http.Transport{
		// A certificate for the public name does not fit 127.0.0.1, and this
		// is the socket that the launcher itself holds; nothing secret is sent.
		TLSClientConfig: &tls.Config{InsecureSkipVerify: loopback(req.URL)},
	}
	go func() {
		select {
		case conn := <-connected:
			cancelWhenSilent(ctx, conn, cancel)
		case <-ctx.Done():
		}
	}()
	answer, err := transport.RoundTrip(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), errSilent) {
			return nil, errSilent
		}
		return nil, err
	}
	// The body is of no interest, and the connection ends with the context.
	return answer, answer.Body.Close()
}

// cancelWhenSilent gives up a request patience after it was made, but never
// while the connection is still in the queue.
func cancelWhenSilent(ctx context.Context, conn net.Conn, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(patience)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if waiting, err := inQueue(conn); err != nil || !waiting {
			cancel(errSilent)
			return
		}
	}
}

// inQueue reports whether the other end of a connection to this machine has not
// been accepted yet: such a connection has no inode (net/ipv4/tcp_ipv4.c prints
// sock_i_ino, which is 0 until accept(2) makes a file of it).
func inQueue(conn net.Conn) (bool, error) {
	client, server := conn.LocalAddr().(*net.TCPAddr), conn.RemoteAddr().(*net.TCPAddr)
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return false, err
	}
	table := fs.NetTCP
	if server.IP.To4() == nil {
		table = fs.NetTCP6
	}
	connections, err := table()
	if err != nil {
		return false, err
	}
	for _, line := range connections {
		if line.LocalPort == uint64(server.Port) && line.RemPort == uint64(client.Port) && line.RemAddr.Equal(client.IP) {
			return line.Inode == 0, nil
		}
	}
	return false, nil
}

var errSilent = errors.New("accepted, and not answered in 5 s")

func readyURL(spec Spec) (string, error) {
	if strings.HasPrefix(spec.ReadyPath, "/") {
		return "http://" + dialAddress(spec.Sockets[0].Address).String() + spec.ReadyPath, nil
	}
	if _, err := url.Parse(spec.ReadyPath); err != nil {
		return "", fmt.Errorf("ready.path: %w", err)
	}
	return spec.ReadyPath, nil
}

func loopback(u *url.URL) bool {
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() == "localhost" || (err == nil && ip.IsLoopback())
}

// dialAddress is where to reach a socket that listens on address.
func dialAddress(address netip.AddrPort) netip.AddrPort {
	switch {
	case !address.Addr().IsUnspecified():
		return address
	case address.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), address.Port())
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), address.Port())
	}
}
