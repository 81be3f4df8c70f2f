package probe

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"openclaw-gateway/netaddr"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sys/unix"
)

// Prober makes the launcher's own requests.
type Prober struct {
	// AnswerTimeout is how long a request may go unanswered once the worker has
	// taken it from the queue.
	AnswerTimeout time.Duration
	// Unaccepted reports whether a connection to this machine has not been accepted
	// yet, named by its two ends.
	Unaccepted func(server, client netaddr.Address) (bool, error)
	// Reach returns where a held address can be connected to from here, if it can, and QueuedOn how many clients wait on one.
	Reach    func(held netaddr.Address) (target netaddr.Address, can bool)
	QueuedOn func(held netaddr.Address) (int, error)
	// Displaced reports whether somebody else has taken the place of one.
	Displaced func(held netaddr.Address) bool
	// Connected is called with each connection that was made, Answered when it has
	// left the queue and the request is over.
	Connected func(net.Conn)
	Answered  func()
}

// AwaitAnswers returns nil when the worker has taken a request from the queue
// of every held address: the only way to see that a worker has adopted sockets when
// its handoff does not tell. One request at a time, because it stands in the
// same queue as the clients. Where no request can be made the clients' own tell as much:
// that none of them waits. said is called with what came instead.
func (p Prober) AwaitAnswers(ctx context.Context, held []netaddr.Address, said func(string)) error {
	for _, address := range held {
		err := insist(ctx, said, func() string {
			target, can := p.Reach(address)
			if !can && p.Displaced(address) {
				return Displaced(address)
			}
			if !can {
				return p.waiting(address)
			}
			_, err := p.exchange(ctx, http.MethodHead, At(target, "/"))
			// Whatever came back came from a worker that accepted the
			// connection: an answer, one that is not HTTP, a closed connection,
			// or silence after the connection had left the queue. Only a
			// connection that could not be made says nothing: the queue is
			// full, or somebody has shut the socket down.
			switch dial := new(net.OpError); {
			case !errors.As(err, &dial) || dial.Op != "dial":
				return ""
			case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EADDRNOTAVAIL):
				return p.waiting(address)
			default:
				return fmt.Sprintf("cannot connect to %s: %v", address, err)
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Displaced says that another socket has the path of a held one.
func Displaced(held netaddr.Address) string {
	return fmt.Sprintf("another socket has taken the place of %s: if the worker binds the path itself, it has to take the socket from LISTEN_FDS instead", held)
}

// waiting says that clients wait on an address; "" if none does, or nobody can tell.
func (p Prober) waiting(held netaddr.Address) (complaint string) {
	if queued, err := p.QueuedOn(held); err != nil || queued == 0 {
		return ""
	}
	return fmt.Sprintf("clients wait on %s, to which the launcher itself cannot connect", held)
}

// AwaitPath returns nil when GET of the target has been answered with 2xx or 3xx. said
// is called with what came instead, in which the target is as it may be shown.
func (p Prober) AwaitPath(ctx context.Context, target, shown Target, said func(string)) error {
	return insist(ctx, said, func() string { return p.Ask(ctx, target, shown) })
}

// Ask says what is wrong with the answer to GET; "" if it is 2xx or 3xx.
func (p Prober) Ask(ctx context.Context, target, shown Target) (complaint string) {
	answer, err := p.exchange(ctx, http.MethodGet, target)
	switch {
	case err != nil:
		said := fmt.Sprintf("GET %s: %.*v", shown, longestSaid, err) + p.overTLS(ctx, target, shown, err)
		if alert(err) && target.nameless() {
			said += byName
		}
		return said
	case answer.StatusCode == http.StatusBadRequest, answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusMisdirectedRequest:
		said := p.overTLS(ctx, target, shown, nil)
		if said == "" && target.nameless() {
			said = byName
		}
		return fmt.Sprintf("GET %s was answered with %.*s", shown, longestSaid, answer.Status) + said
	case answer.StatusCode < 200 || answer.StatusCode >= 400:
		return fmt.Sprintf("GET %s was answered with %.*s", shown, longestSaid, answer.Status)
	default:
		return ""
	}
}

// overTLS is what to say besides where a TLS server answers to a request without TLS: it closes the connection, sends an alert or, as
// Go's and nginx do, a 400. A server that does not say so is asked.
func (p Prober) overTLS(ctx context.Context, target, shown Target, err error) string {
	rest, plain := strings.CutPrefix(target.url, "http://")
	if dial := new(net.OpError); !plain || ctx.Err() != nil || errors.As(err, &dial) && dial.Op == "dial" || errors.Is(err, errSilent) {
		return ""
	}
	encrypted := target
	encrypted.url = "https://" + rest
	_, err = p.exchange(ctx, http.MethodHead, encrypted)
	if unknown := new(tls.CertificateVerificationError); err != nil && !errors.As(err, &unknown) && !alert(err) {
		return ""
	}
	if target.socket != "" { // a URL leads to an address of TCP
		return ": it speaks TLS there, and what is asked over a unix socket is asked without: name a URL at an address of TCP, or no path (ready.path, alive.path)"
	}
	said := fmt.Sprintf(": it speaks TLS there: ask for https://%s (ready.path, alive.path)", strings.TrimPrefix(shown.url, "http://"))
	if alert(err) && target.nameless() {
		said += byName
	}
	return said
}

// byName is what to say besides where a server refuses a request that has no name in it.
const byName = ": if it answers to its own name alone, write that into ready.host"

// alert reports whether the other end has refused to go on with TLS, as servers do that have no certificate for who names none.
func alert(err error) bool {
	remote := new(net.OpError)
	return errors.As(err, &remote) && remote.Op == "remote error" // crypto/tls
}

// errSilent says that a request was accepted, and not answered.
var errSilent = errors.New("accepted, and not answered")

// longestSaid is how many characters of an answer are told: a worker may say anything.
const longestSaid = 200

// insist tries until there is nothing to complain of, or the context is done. A
// worker that answers and is not ready yet has nothing that could be waited for,
// so it is asked again, while it starts and no longer.
func insist(ctx context.Context, said func(string), try func() (complaint string)) error {
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = 50*time.Millisecond, time.Second
	for {
		complaint := try()
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if complaint == "" {
			return nil
		}
		said(complaint)
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// exchange makes one request on a connection of its own and waits for the head
// of the answer for as long as the connection stands in the queue: one that is
// given up would stay there, in front of the clients. When it returns, the
// connection is closed.
func (p Prober) exchange(ctx context.Context, method string, target Target) (*http.Response, error) {
	defer func(given context.Context) {
		// Only who gives up leaves the connection in the queue.
		if given.Err() == nil {
			p.Answered()
		}
	}(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, method, target.url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "gateway-ready-probe")
	req.Host = target.Host
	req.Close = true
	silent := fmt.Errorf("%w in %s", errSilent, p.AnswerTimeout)
	// The transport's own context outlives the request: a connection that
	// is made at the last moment would be kept for one that never comes.
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := target.dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		p.Connected(conn)
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		go func() {
			if p.stayedSilent(ctx, conn) {
				cancel(silent)
			}
		}()
		return conn, nil
	}
	transport := &http.Transport{
		DialContext: dial,
		DialTLSContext: func(_ context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			server := url.URL{Host: cmp.Or(target.Host, req.URL.Host)}
			// A certificate for the public name does not fit an address of this machine, such as those that the launcher itself
			// holds; nothing secret is sent.
			encrypted := tls.Client(conn, &tls.Config{ServerName: server.Hostname(), InsecureSkipVerify: staysHere(conn)})
			return encrypted, encrypted.HandshakeContext(ctx)
		},
		MaxResponseHeaderBytes: 1 << 20,
	}
	answer, err := transport.RoundTrip(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, err
	}
	return answer, answer.Body.Close()
}

// stayedSilent returns true when the connection has been out of the queue for the
// time in which an answer has to come, and false when the context is done before.
func (p Prober) stayedSilent(ctx context.Context, conn net.Conn) bool {
	ticker := time.NewTicker(p.AnswerTimeout)
	defer ticker.Stop()
	for accepted := false; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return false
		}
		waiting, err := p.Unaccepted(Ends(conn))
		if err != nil || !waiting {
			if accepted {
				return true
			}
			// Perhaps only just now.
			accepted = true
		}
	}
}

// Target is what is asked for, and where.
type Target struct {
	url    string
	socket string // the path of a unix socket; "": where the URL leads
	// Host is the Host header and the server's name for TLS, with a port or without; "": as the URL has it.
	Host string
}

// At is where a path leads at an address; what is a URL already leads there.
func At(address netaddr.Address, path string) Target {
	if !strings.HasPrefix(path, "/") {
		return Target{url: path}
	}
	if address.IsUnix() {
		return Target{url: "http://localhost" + path, socket: address.Path()}
	}
	// Through URL, which escapes the zone of a link-local address.
	server := url.URL{Scheme: "http", Host: address.String()}
	return Target{url: server.String() + path}
}

// String is for people.
func (t Target) String() string {
	text := t.url
	if t.socket != "" {
		text += " over " + netaddr.Unix(t.socket).String()
	}
	if t.Host != "" {
		text += " as " + t.Host
	}
	return text
}

// nameless reports whether a server is asked by its address, of which it may know nothing.
func (t Target) nameless() bool {
	server, err := url.Parse(t.url)
	if err != nil || t.Host != "" {
		return false
	}
	_, err = netip.ParseAddr(server.Hostname())
	return err == nil || server.Hostname() == "localhost"
}

func (t Target) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if t.socket == "" {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	// A name of its own, which the kernel chooses (unix(7), "Autobind feature"), tells this client from the others.
	dialer := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		refused := raw.Control(func(fd uintptr) { err = unix.Bind(int(fd), &unix.SockaddrUnix{}) })
		return errors.Join(refused, err)
	}}
	return dialer.DialContext(ctx, "unix", t.socket)
}

// Ends returns the two ends of a connection.
func Ends(conn net.Conn) (server, client netaddr.Address) {
	return netaddr.Of(conn.RemoteAddr()), netaddr.Of(conn.LocalAddr())
}

// staysHere reports whether both ends of a connection are this machine's. For an address that is its own the kernel chooses the same
// one, or one of loopback, as the client's (see own in package listener).
func staysHere(conn net.Conn) bool {
	server, client := Ends(conn)
	return server.IsUnix() || client.Addr().IsLoopback() || client.Addr().WithZone("") == server.Addr().WithZone("")
}
