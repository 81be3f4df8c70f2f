package handoff_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
)

// script makes a start of a Node.js program of testdata with the sockets.
func script(t *testing.T, name string, sockets []handoff.Socket, arguments ...string) start {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return start{kind: handoff.Preload, sockets: sockets, path: node(t), arguments: append([]string{path}, arguments...)}
}

func readAll(t *testing.T, conn net.Conn) string {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("a client got %q, then %v", answer, err)
	}
	return string(answer)
}

const request = "GET / HTTP/1.1\r\nHost: held\r\nConnection: close\r\n\r\n"

// answered makes a request on a connection and wants its answer.
func (w *worker) answered(kind string, conn net.Conn) {
	w.t.Helper()
	if kind == "https" || kind == "tls" {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
	}
	if kind == "http" || kind == "https" {
		if _, err := io.WriteString(conn, request); err != nil {
			w.fatalf("a client could not ask: %v", err)
		}
	}
	if err := conn.SetDeadline(time.Now().Add(bound)); err != nil {
		w.t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(answer), "answered") {
		w.fatalf("a client of the %s server got %q, %v", kind, answer, err)
	}
	_ = conn.Close()
}

// bound checks that a server says that it listens on the socket.
func (w *worker) bound(id string, socket handoff.Socket) {
	w.t.Helper()
	said := w.says("listening")
	if want := socketName(w.t, socket.File); said.ID != id || said.Socket != want {
		w.fatalf("server %q listens on %s, not server %q on %s", said.ID, said.Socket, id, want)
	}
	ip := socket.Address.Addr()
	family := "IPv6"
	if ip.Is4() {
		family = "IPv4"
	}
	got, want := fmt.Sprint(said.Address), fmt.Sprint(map[string]any{
		"address": ip.String(), "family": family, "port": float64(socket.Address.Port()),
	})
	if got != want {
		w.fatalf("server.address() returns %s, not %s", got, want)
	}
}

// certificate writes a key and a certificate and returns their environment.
func certificate(t *testing.T) []string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	public, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return []string{
		"CERTIFICATE=" + write("certificate.pem", "CERTIFICATE", public),
		"KEY=" + write("key.pem", "PRIVATE KEY", private),
	}
}

func TestListenAdopts(t *testing.T) {
	t.Parallel()
	forms := []struct {
		name string
		args func(host string, port int) []any
	}{
		{"port and host", func(host string, port int) []any { return []any{port, host} }},
		{"object", func(host string, port int) []any { return []any{map[string]any{"port": port, "host": host}} }},
		{"object with a string", func(host string, port int) []any {
			return []any{map[string]any{"port": strconv.Itoa(port), "host": host, "backlog": 5, "exclusive": true}}
		}},
		{"string", func(host string, port int) []any { return []any{strconv.Itoa(port), host} }},
		{"backlog", func(host string, port int) []any { return []any{port, host, 5} }},
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			sockets := hold(t, host)
			socket := sockets[0]
			full := backlog(t, socket.File)
			s := script(t, "servers.cjs", sockets)
			s.environ = certificate(t)
			w := s.run(t)
			round := 0
			for _, kind := range []string{"net", "http", "https", "tls"} {
				for _, form := range forms {
					for _, callback := range []bool{false, true} {
						round++
						id := fmt.Sprintf("%d: %s, %s, callback %t", round, kind, form.name, callback)
						w.tell(command{Do: "make", ID: id, Kind: kind},
							command{Do: "listen", ID: id, Args: form.args(host, int(socket.Address.Port())), Callback: callback})
						w.bound(id, socket)
						if callback {
							w.says("called")
						}
						w.reported(listening(socket.Address))
						if got := backlog(t, socket.File); got != full {
							w.fatalf("the queue holds %d clients, not %d as before", got, full)
						}
						w.answered(kind, dial(t, socket.Address))
						w.tell(command{Do: "close", ID: id})
						w.says("close")
						w.reported(closed(socket.Address))
					}
				}
			}
			w.finish()
		})
	}
}

func TestListenAdoptsBothFamilies(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1", "::1")
	w := script(t, "servers.cjs", sockets).run(t)
	for i, socket := range sockets {
		id := strconv.Itoa(i)
		w.tell(command{Do: "make", ID: id, Kind: "http"},
			command{Do: "listen", ID: id, Args: []any{socket.Address.Port(), socket.Address.Addr().String()}})
		w.bound(id, socket)
		w.reported(listening(socket.Address))
	}
	for _, socket := range sockets {
		w.answered("http", dial(t, socket.Address))
	}
	w.finish()
}

// Without a host Node.js listens on the wildcard.
func TestListenAdoptsTheWildcard(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"0.0.0.0", "::"} {
		for _, args := range [][]any{{}, {""}, {host}} {
			t.Run(fmt.Sprintf("%s %q", host, args), func(t *testing.T) {
				t.Parallel()
				sockets := hold(t, host)
				w := script(t, "servers.cjs", sockets).run(t)
				w.tell(command{Do: "make", ID: "a", Kind: "http"},
					command{Do: "listen", ID: "a", Args: append([]any{sockets[0].Address.Port()}, args...), Callback: true})
				w.bound("a", sockets[0])
				w.says("called")
				want := listening(sockets[0].Address)
				want.Narrow = host == "::"
				w.reported(want)
				loopback := "127.0.0.1"
				if host == "::" {
					loopback = "::1"
				}
				w.answered("http", dial(t, netaddr.From(netip.MustParseAddr(loopback), sockets[0].Address.Port())))
				w.finish()
			})
		}
	}
}

// Without a host, or on the IPv6 wildcard, Node.js has the clients of both families.
func TestListenAdoptsBothWildcards(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hosts  []string
		dual   bool
		args   []any // besides the port
		want   []string
		narrow bool
	}{
		"both":          {[]string{"0.0.0.0", "::"}, false, nil, []string{"::", "0.0.0.0"}, false},
		"both, named":   {[]string{"0.0.0.0", "::"}, false, []any{"::"}, []string{"::", "0.0.0.0"}, false},
		"IPv6 alone":    {[]string{"::"}, false, nil, []string{"::"}, true},
		"dual-stack":    {[]string{"::"}, true, nil, []string{"::"}, false},
		"IPv4 is asked": {[]string{"0.0.0.0", "::"}, false, []any{"0.0.0.0"}, []string{"0.0.0.0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := hold(t, test.hosts...)
			for i := range held {
				held[i].DualStack = test.dual
			}
			port := held[0].Address.Port()
			w := script(t, "servers.cjs", held).run(t)
			for range 3 {
				w.tell(command{Do: "make", ID: "a", Kind: "http"},
					command{Do: "listen", ID: "a", Args: append([]any{port}, test.args...)})
				w.says("listening")
				var reports []handoff.Report
				for range test.want {
					reports = append(reports, <-w.reports)
				}
				for _, host := range test.want {
					want := listening(netaddr.From(netip.MustParseAddr(host), port))
					want.Narrow = test.narrow
					if !slices.Contains(reports, want) {
						w.fatalf("reported %+v, want %+v", reports, want)
					}
					loopback := "127.0.0.1"
					if host == "::" {
						loopback = "::1"
					}
					for range 3 {
						w.answered("http", dial(t, netaddr.From(netip.MustParseAddr(loopback), port)))
					}
				}
				w.tell(command{Do: "close", ID: "a"})
				w.says("close")
				for _, host := range test.want {
					w.reported(closed(netaddr.From(netip.MustParseAddr(host), port)))
				}
			}
			w.finish()
		})
	}
}

func TestListenAgain(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"})
	for range 20 {
		waiting := dial(t, socket.Address) // while nobody listens in the worker
		w.tell(command{Do: "listen", ID: "a", Args: []any{socket.Address.Port(), "127.0.0.1"}})
		w.bound("a", socket)
		w.reported(listening(socket.Address))
		w.answered("http", waiting)
		w.answered("http", dial(t, socket.Address))
		w.tell(command{Do: "close", ID: "a"})
		w.says("close")
		w.reported(closed(socket.Address))
	}
	w.finish()
}

func TestListenAgainAtOnce(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	listen := command{Do: "listen", ID: "a", Args: []any{socket.Address.Port(), "127.0.0.1"}}
	w := script(t, "servers.cjs", sockets).run(t)
	var at []command
	for range 20 {
		at = append(at, listen, command{Do: "close", ID: "a"})
	}
	w.tell(command{Do: "make", ID: "a", Kind: "net"}, command{Do: "together", Commands: append(at, command{Do: "look", ID: "a"})})
	// The program's own, and none that was left of a listen() without outcome.
	if said := w.says("looked"); said.Listeners != 2 {
		w.fatalf("the server has %d listeners, not 2", said.Listeners)
	}
	for range 20 {
		w.reported(closed(socket.Address))
		w.says("close")
	}
	w.finish()
}

func TestCloseInTheCallback(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	address := sockets[0].Address
	w := script(t, "eager.cjs", sockets, "127.0.0.1", strconv.Itoa(int(address.Port()))).run(t)
	w.says("listening")
	w.reported(closed(address))
	w.reported(listening(address))
	w.answered("http", dial(t, address))
	w.finish()
}

func TestSpellingsOfAnAddress(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "::1")
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"})
	for _, host := range []string{"::1", "0:0:0:0:0:0:0:1", "::0001", "0::1", "0000:0000::0001", "::0.0.0.1"} {
		w.tell(command{Do: "listen", ID: "a", Args: []any{map[string]any{"host": host, "port": sockets[0].Address.Port()}}})
		w.bound("a", sockets[0])
		w.reported(listening(sockets[0].Address))
		w.answered("http", dial(t, sockets[0].Address))
		w.tell(command{Do: "close", ID: "a"})
		w.says("close")
		w.reported(closed(sockets[0].Address))
	}
	w.finish()
}

// boundToOne checks that a server says that it listens on one of the sockets.
func (w *worker) boundToOne(id string, sockets []handoff.Socket) handoff.Socket {
	w.t.Helper()
	said := w.says("listening")
	i := slices.IndexFunc(sockets, func(socket handoff.Socket) bool { return said.Socket == socketName(w.t, socket.File) })
	if said.ID != id || i < 0 {
		w.fatalf("server %q listens on %s", said.ID, said.Socket)
	}
	return sockets[i]
}

// localhost is 127.0.0.1 or ::1, as the machine has it.
func localhost(t *testing.T) (held []handoff.Socket, listen []any) {
	t.Helper()
	held = hold(t, "127.0.0.1", "::1")
	return held, []any{held[0].Address.Port(), "localhost"}
}

func TestListenOnAName(t *testing.T) {
	t.Parallel()
	sockets, args := localhost(t)
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: args, Callback: true})
	socket := w.boundToOne("a", sockets)
	w.says("called")
	w.reported(listening(socket.Address))
	w.answered("http", dial(t, socket.Address))
	w.finish()
}

func TestCloseWhileANameIsResolved(t *testing.T) {
	t.Parallel()
	sockets, args := localhost(t)
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "together", Commands: []command{
		{Do: "listen", ID: "a", Args: args},
		{Do: "close", ID: "a"},
	}})
	w.says("close")
	// Another name, so that the first has been resolved when this has.
	w.tell(command{Do: "make", ID: "b", Kind: "http"}, command{Do: "listen", ID: "b", Args: args})
	w.reported(listening(w.boundToOne("b", sockets).Address))
	w.finish()
}

func TestListenElsewhereWhileANameIsResolved(t *testing.T) {
	t.Parallel()
	sockets, args := localhost(t)
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "together", Commands: []command{
		{Do: "listen", ID: "a", Args: args},
		{Do: "listen", ID: "a", Args: []any{sockets[1].Address.Port(), "::1"}},
	}})
	w.bound("a", sockets[1])
	w.reported(listening(sockets[1].Address))
	// Another name, so that the first has been resolved when this has.
	w.tell(command{Do: "make", ID: "b", Kind: "http"}, command{Do: "listen", ID: "b", Args: []any{nil, "localhost"}})
	if said := w.says("listening"); said.ID != "b" {
		w.fatalf("server %q listens", said.ID)
	}
	w.finish()
}

func TestListenOnANameThatDoesNotExist(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"},
		command{Do: "listen", ID: "a", Args: []any{sockets[0].Address.Port(), strings.Repeat("x", 64) + ".invalid"}})
	said := w.says("error")
	if said.Syscall != "getaddrinfo" {
		w.fatalf("the error is of %q", said.Syscall)
	}
	w.reported(handoff.Report{Event: handoff.Failed, Code: said.Code})
	w.finish()
}

func TestOtherAddressesPassThrough(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	port := sockets[0].Address.Port()
	// An address that nobody else binds a port of.
	other := hold(t, "127.0.0.3")[0]
	if err := other.File.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "socket")
	for _, test := range []struct {
		name   string
		args   []any
		report bool
	}{
		{"port 0", []any{0, "127.0.0.1"}, true},
		{"port 0 in an object", []any{map[string]any{"port": 0, "host": "127.0.0.1"}}, true},
		{"no arguments", nil, false},
		{"null", []any{nil}, false},
		{"another port", []any{other.Address.Port(), "127.0.0.3"}, true},
		{"the port, another address", []any{port, "127.0.0.2"}, true},
		{"the port, another family", []any{port, "::ffff:127.0.0.2"}, true},
		{"unix", []any{path}, false},
		{"unix in an object", []any{map[string]any{"path": path}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := script(t, "servers.cjs", sockets).run(t)
			w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: test.args, Callback: true})
			said := w.says("listening")
			w.says("called")
			if said.Socket == socketName(t, sockets[0].File) {
				w.fatalf("the server listens on the held socket")
			}
			target := path
			if bound, tcp := said.Address.(map[string]any); tcp {
				host := bound["address"].(string)
				if host == "::" {
					host = "::1"
				}
				target = net.JoinHostPort(host, fmt.Sprint(bound["port"]))
				if test.report {
					address := netaddr.MustParse(target)
					w.reported(handoff.Report{
						Event: handoff.Listening, Address: address, Ephemeral: strings.HasPrefix(test.name, "port 0"),
					})
				}
			}
			network := "tcp"
			if target == path {
				network = "unix"
			}
			conn, err := net.Dial(network, target)
			if err != nil {
				w.fatalf("dial %s: %v", target, err)
			}
			w.answered("http", conn)
			w.tell(command{Do: "close", ID: "a"})
			w.says("close")
			w.finish()
		})
	}
}

func TestInvalidCallsAreRefused(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"})
	for _, test := range []struct {
		args []any
		code string
	}{
		{[]any{70000}, "ERR_SOCKET_BAD_PORT"},
		{[]any{map[string]any{"port": -1, "host": "127.0.0.1"}}, "ERR_SOCKET_BAD_PORT"},
		{[]any{map[string]any{}}, "ERR_INVALID_ARG_VALUE"},
		{[]any{true}, "ERR_INVALID_ARG_VALUE"},
	} {
		w.tell(command{Do: "listen", ID: "a", Args: test.args})
		if said := w.says("thrown"); said.Code != test.code {
			w.fatalf("listen(%v) throws %s, not %s", test.args, said.Code, test.code)
		}
	}
	w.finish()
}

func TestClash(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	port := sockets[0].Address.Port()
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{port, "0.0.0.0"}, Callback: true})
	said := w.says("error")
	if said.Code != "EADDRINUSE" || said.Syscall != "listen" || said.Failed != "0.0.0.0" || said.Port != int(port) {
		w.fatalf("the error is %+v", said)
	}
	w.reported(handoff.Report{Event: handoff.Failed, Address: netaddr.From(netip.IPv4Unspecified(), port), Code: "EADDRINUSE"})
	w.finish()
}

// A server that is refused an address goes on to another one only if it is
// refused: two servers on one queue would share its clients at random.
func TestASecondServerIsRefused(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	args := []any{socket.Address.Port(), "127.0.0.1"}
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "make", ID: "b", Kind: "net"}, command{Do: "listen", ID: "a", Args: args})
	w.bound("a", socket)
	w.reported(listening(socket.Address))
	w.tell(command{Do: "listen", ID: "b", Args: args})
	if said := w.says("error"); said.ID != "b" || said.Code != "EADDRINUSE" {
		w.fatalf("the error is %+v", said)
	}
	w.reported(handoff.Report{Event: handoff.Failed, Address: socket.Address, Held: true, Code: "EADDRINUSE"})
	w.answered("http", dial(t, socket.Address))

	w.tell(command{Do: "close", ID: "a"})
	w.says("close")
	w.reported(closed(socket.Address))
	w.tell(command{Do: "listen", ID: "b", Args: args})
	w.bound("b", socket)
	w.reported(listening(socket.Address))
	w.answered("net", dial(t, socket.Address))
	w.finish()
}

// A second call on the same server throws, and changes nothing for the first.
func TestListenTwice(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	listen := command{Do: "listen", ID: "a", Args: []any{sockets[0].Address.Port(), "127.0.0.1"}}
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "together", Commands: []command{listen, listen}})
	if said := w.says("thrown"); said.Code != "ERR_SERVER_ALREADY_LISTEN" {
		w.fatalf("it throws %s", said.Code)
	}
	w.bound("a", sockets[0])
	w.reported(listening(sockets[0].Address))
	w.answered("http", dial(t, sockets[0].Address))
	w.finish()
}

func TestUnhandledErrorEndsTheProcess(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	port := sockets[0].Address.Port()
	w := script(t, "unhandled.cjs", sockets, "0.0.0.0", strconv.Itoa(int(port))).run(t)
	w.reported(handoff.Report{Event: handoff.Failed, Address: netaddr.From(netip.IPv4Unspecified(), port), Code: "EADDRINUSE"})
	w.ends(1)
	if text := w.errors(); !strings.Contains(text, "Unhandled 'error' event") || !strings.Contains(text, "EADDRINUSE") {
		w.fatalf("the process did not say why")
	}
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"})
	listen := command{Do: "listen", ID: "a", Args: []any{socket.Address.Port(), "127.0.0.1"}}
	for range len(w.handoff.Files()) - 1 { // one is the pipe
		w.tell(listen)
		w.bound("a", socket)
		w.reported(listening(socket.Address))
		w.tell(command{Do: "close", ID: "a"})
		w.says("close")
		w.reported(closed(socket.Address))
	}
	w.tell(listen)
	if said := w.says("error"); said.Code != "EADDRINUSE" {
		w.fatalf("the error is %+v", said)
	}
	w.reported(handoff.Report{Event: handoff.Exhausted, Address: socket.Address, Held: true})
	w.reported(handoff.Report{Event: handoff.Failed, Address: socket.Address, Held: true, Code: "EADDRINUSE"})
	dial(t, socket.Address)
	w.finish()
}

// http.Server.close() waits for the connections that are in use, and the
// 'close' event with it; but nothing listens any more from the call on.
func TestClosedWithOpenConnections(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	w := script(t, "servers.cjs", sockets).run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"},
		command{Do: "listen", ID: "a", Args: []any{socket.Address.Port(), "127.0.0.1"}})
	w.bound("a", socket)
	w.reported(listening(socket.Address))
	busy := dial(t, socket.Address)
	client := &http.Client{Transport: &http.Transport{}}
	// A kept connection, and one in the middle of a request. The answer on the
	// first shows that the server had taken the second.
	if _, err := io.WriteString(busy, "GET / HTTP/1.1\r\nHost: "); err != nil {
		t.Fatal(err)
	}
	answer, err := client.Get("http://" + socket.Address.String())
	if err != nil {
		w.fatalf("%v", err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		w.fatalf("%v", err)
	}
	_ = answer.Body.Close()
	w.tell(command{Do: "close", ID: "a"})
	w.reported(closed(socket.Address))
	if _, err := io.WriteString(busy, "held\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if got := readAll(t, busy); !strings.HasSuffix(got, "answered") {
		w.fatalf("the request in progress was answered with %q", got)
	}
	client.CloseIdleConnections()
	w.says("close")
	w.finish()
}

func TestAbort(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	socket := sockets[0]
	w := script(t, "servers.cjs", sockets).run(t)
	for _, host := range []string{"127.0.0.1", "0177.1"} { // the second one is resolved
		w.tell(command{Do: "make", ID: host, Kind: "http"}, command{Do: "listen", ID: host, Abortable: true, Args: []any{
			map[string]any{"port": socket.Address.Port(), "host": host},
		}})
		w.bound(host, socket)
		w.reported(listening(socket.Address))
		w.answered("http", dial(t, socket.Address))
		w.tell(command{Do: "abort", ID: host})
		w.says("close")
		w.reported(closed(socket.Address))
	}
	w.finish()
}

func TestModule(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "::1")
	w := script(t, "module.mjs", sockets, "::1", strconv.Itoa(int(sockets[0].Address.Port()))).run(t)
	w.says("listening")
	w.reported(listening(sockets[0].Address))
	w.answered("http", dial(t, sockets[0].Address))
	w.finish()
}

// An OpenClaw gateway tells which Node.js runs it, and which it needs; nobody else does, and nothing of it delays or ends a
// program.
func TestRuntime(t *testing.T) {
	t.Parallel()
	said, err := exec.Command(node(t), "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	version := strings.TrimPrefix(strings.TrimSpace(string(said)), "v")
	module, err := os.ReadFile("testdata/module.mjs")
	if err != nil {
		t.Fatal(err)
	}
	const told = `{"name": "openclaw", "version": "2026.9.6", "engines": {"node": ">=99.1"}}`
	for name, test := range map[string]struct {
		entry, pkg string
		linked     bool
		arguments  []string
		told       bool
	}{
		"in dist":         {"dist/index.mjs", told, false, []string{"gateway", "run"}, true},
		"by a link":       {"dist/index.mjs", told, true, []string{"gateway"}, true},
		"beside it":       {"openclaw.mjs", told, false, []string{"gateway"}, true},
		"another command": {"dist/index.mjs", told, false, []string{"doctor"}, false},
		"another package": {"dist/index.mjs", strings.Replace(told, "openclaw", "open", 1), false, []string{"gateway"}, false},
		"no engines":      {"dist/index.mjs", `{"name": "openclaw", "engines": 5}`, false, []string{"gateway"}, false},
		"no JSON":         {"dist/index.mjs", "x", false, []string{"gateway"}, false},
		"null":            {"dist/index.mjs", "null", false, []string{"gateway"}, false},
		"no package":      {"dist/index.mjs", "", false, []string{"gateway"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder, sockets := t.TempDir(), hold(t, "::1")
			entry := filepath.Join(folder, test.entry)
			err := errors.Join(os.MkdirAll(filepath.Dir(entry), 0o755), os.WriteFile(entry, module, 0o644))
			if test.pkg != "" {
				err = errors.Join(err, os.WriteFile(filepath.Join(folder, "package.json"), []byte(test.pkg), 0o644))
			}
			if test.linked {
				link := filepath.Join(t.TempDir(), "entry.mjs")
				err = errors.Join(err, os.Symlink(entry, link))
				entry = link
			}
			if err != nil {
				t.Fatal(err)
			}
			s := script(t, "module.mjs", sockets)
			s.arguments = append([]string{entry, "::1", strconv.Itoa(int(sockets[0].Address.Port()))}, test.arguments...)
			w := s.run(t)
			if test.told {
				program, err := filepath.EvalSymlinks(node(t))
				if err != nil {
					t.Fatal(err)
				}
				w.reported(handoff.Report{Event: handoff.Runtime, Program: program, Version: version, Needs: ">=99.1", OpenClaw: handoff.OpenClaw{Release: "2026.9.6", Entry: entry}})
			}
			w.says("listening")
			w.reported(listening(sockets[0].Address))
			w.finish()
		})
	}
}

// TestSuits: what is unknown suits.
func TestSuits(t *testing.T) {
	t.Parallel()
	const openclaw = ">=24.16.0 <25 || >=26.1.0"
	for _, test := range []struct {
		version, needs string
		want           bool
	}{
		{"24.21.0", openclaw, true},
		{"v24.16.0", openclaw, true},
		{"24.15.9", openclaw, false},
		{"25.0.0", openclaw, false},
		{"20.20.2", openclaw, false},
		{"26.1.0", openclaw, true},
		{"26.1.0-nightly20260901", openclaw, true},
		{"26.0.0-rc.1", openclaw, false},
		{"22.1.0", "^22 || 24.x", true},
		{"23.1.0", "^22 || 24.x", false},
		{"", openclaw, true},
		{"of course", openclaw, true},
		{"20.20.2", "", true},
		{"20.20.2", "a new one", true},
	} {
		if got := handoff.Suits(test.version, test.needs); got != test.want {
			t.Errorf("Node.js %q where %q is needed: %v", test.version, test.needs, got)
		}
	}
}

// A wrapper in another language passes on what it does not know.
func TestBehindAShell(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"exec": `exec "$@"`, "child": `"$@"; exit $?`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sockets := hold(t, "127.0.0.1")
			s := script(t, "module.mjs", sockets, "127.0.0.1", strconv.Itoa(int(sockets[0].Address.Port())))
			s.arguments = append([]string{"-c", text, "sh", s.path}, s.arguments...)
			s.path = "/bin/sh"
			w := s.run(t)
			w.says("listening")
			w.reported(listening(sockets[0].Address))
			w.answered("http", dial(t, sockets[0].Address))
			w.finish()
		})
	}
}

func TestQueuedClientIsAnswered(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1", "::1")
	var clients []net.Conn
	for _, socket := range sockets {
		clients = append(clients, dial(t, socket.Address))
	}
	w := script(t, "servers.cjs", sockets).run(t)
	for i, socket := range sockets {
		id := strconv.Itoa(i)
		w.tell(command{Do: "make", ID: id, Kind: "http"},
			command{Do: "listen", ID: id, Args: []any{socket.Address.Port(), socket.Address.Addr().String()}})
		w.answered("http", clients[i])
	}
}

func TestWorkerThreadIsLeftAlone(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	w := script(t, "thread.cjs", sockets).run(t)
	said := w.says("listening")
	if said.Environment != nil {
		w.fatalf("the thread sees GATEWAY_PRELOAD=%s", *said.Environment)
	}
	port := said.Address.(map[string]any)["port"].(float64)
	w.answered("http", dial(t, netaddr.From(netip.MustParseAddr("127.0.0.1"), uint16(port))))
	w.finish()
}

// The first process acts, and in it the main thread only, whichever loads the
// script first, and also where Node.js is not permitted to read /proc.
func TestEarlyThreadIsLeftAlone(t *testing.T) {
	t.Parallel()
	early, err := filepath.Abs("testdata/early.cjs")
	if err != nil {
		t.Fatal(err)
	}
	for _, permitted := range []bool{true, false} {
		t.Run(fmt.Sprintf("proc permitted %t", permitted), func(t *testing.T) {
			t.Parallel()
			sockets := hold(t, "127.0.0.1")
			s := script(t, "servers.cjs", sockets, "127.0.0.1", strconv.Itoa(int(sockets[0].Address.Port())))
			options := "--require " + early
			if !permitted {
				options = "--permission --allow-worker --allow-fs-read=" + filepath.Dir(early) + " --allow-fs-read=" + os.TempDir() +
					" --allow-fs-read=/proc/self/fd/* " + options
			}
			s.environ = []string{"NODE_OPTIONS=" + options}
			w := s.run(t)
			if !permitted {
				w.says("warning") // of --allow-worker
			}
			said := w.says("thread")
			if said.Code != "EADDRINUSE" {
				w.fatalf("the thread could listen: %q", said.Code)
			}
			if said.Order != nil || deref(said.Options) != options {
				w.fatalf("the thread sees GATEWAY_PRELOAD=%s NODE_OPTIONS=%s", deref(said.Order), deref(said.Options))
			}
			w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{sockets[0].Address.Port(), "127.0.0.1"}})
			w.bound("a", sockets[0])
			w.reported(listening(sockets[0].Address))
			w.answered("http", dial(t, sockets[0].Address))
			w.finish()
		})
	}
}

func TestChildrenSeeNothing(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"", "--title=given --no-warnings"} {
		t.Run("NODE_OPTIONS="+options, func(t *testing.T) {
			t.Parallel()
			sockets := hold(t, "127.0.0.1")
			s := script(t, "children.cjs", sockets)
			if options != "" {
				s.environ = []string{"NODE_OPTIONS=" + options}
			}
			w := s.run(t)
			held := socketName(t, sockets[0].File)
			for _, way := range []string{"fork", "spawn", "spawn with a shell"} {
				said := w.says("environment")
				if said.Order != nil {
					w.fatalf("%s: the child sees GATEWAY_PRELOAD=%s", way, *said.Order)
				}
				if got := deref(said.Options); got != options {
					w.fatalf("%s: the child has NODE_OPTIONS=%s", way, got)
				}
				for fd, target := range said.Descriptors {
					if target == held {
						w.fatalf("%s: the child has the held socket as descriptor %s", way, fd)
					}
				}
			}
			// The pipe for the reports ends with the worker, so no child has it.
			w.ends(0)
		})
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func TestNodeOptionsOfTheUser(t *testing.T) {
	t.Parallel()
	for name, folder := range map[string]string{
		"plain": "run", "space": "a b", "quote": `a"b`, "backslash": `a\b`, "all": ` "\ \"a `, "dollar": "$&$'", "beyond ASCII": "é",
	} {
		for _, options := range []string{"", "--no-warnings", `--title="given title" --no-warnings`} {
			t.Run(name+" "+options, func(t *testing.T) {
				t.Parallel()
				sockets := hold(t, "127.0.0.1")
				directory := filepath.Join(t.TempDir(), folder)
				if err := os.Mkdir(directory, 0o700); err != nil {
					t.Fatal(err)
				}
				s := script(t, "environment.cjs", sockets)
				s.directory = directory
				if options != "" {
					s.environ = []string{"NODE_OPTIONS=" + options}
				}
				w := s.run(t)
				said := w.says("environment")
				if said.Order != nil {
					w.fatalf("the script was not loaded, or left GATEWAY_PRELOAD=%s", *said.Order)
				}
				if got := deref(said.Options); got != options || (options == "") != (said.Options == nil) {
					w.fatalf("NODE_OPTIONS is %q, not %q", got, options)
				}
				if strings.Contains(options, "--title") && said.Title != "given title" {
					w.fatalf("the user's option was not applied: the title is %q", said.Title)
				}
				w.ends(0)
			})
		}
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			sockets := hold(t, host)
			address := sockets[0].Address
			w := script(t, "cluster.cjs", sockets, host, strconv.Itoa(int(address.Port()))).run(t)
			for range 3 {
				w.says("listening") // both
				w.reported(listening(address))
				for range 4 {
					w.answered("http", dial(t, address))
				}
				for range 2 {
					conn := dial(t, address)
					if _, err := io.WriteString(conn, strings.Replace(request, "/", "/die", 1)); err != nil {
						t.Fatal(err)
					}
					if got := readAll(t, conn); !strings.HasSuffix(got, "answered") {
						w.fatalf("a client got %q", got)
					}
				}
				w.reported(closed(address))
			}
			w.says("listening")
			w.reported(listening(address))
			w.answered("http", dial(t, address))
		})
	}
}

func TestLauncherHasGone(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	s := script(t, "servers.cjs", sockets)
	s.deaf = true
	w := s.run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"})
	for range 3 {
		w.tell(command{Do: "listen", ID: "a", Args: []any{sockets[0].Address.Port(), "127.0.0.1"}})
		w.bound("a", sockets[0])
		w.answered("http", dial(t, sockets[0].Address))
		w.tell(command{Do: "close", ID: "a"})
		w.says("close")
	}
	w.finish()
}

// The reports of a worker that listens faster than the launcher reads must wait,
// not get lost.
func TestReportsAreBlocking(t *testing.T) {
	t.Parallel()
	s := shell(`grep flags: /proc/self/fdinfo/3`, hold(t, "127.0.0.1")...)
	s.kind = handoff.Preload
	w := s.run(t)
	text := strings.TrimSpace(strings.TrimPrefix(w.text(), "flags:"))
	flags, err := strconv.ParseInt(text, 8, 64)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if flags&unix.O_WRONLY == 0 || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("the flags of the pipe are %s", text)
	}
	w.ends(0)
}

// TestPassed: a Node.js that speaks LISTEN_FDS takes a socket by its descriptor, as often as it wants, and one that does not by its
// address.
func TestPassed(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1", "::1")
	s := script(t, "servers.cjs", sockets)
	s.besides = handoff.Free
	w := s.run(t)
	w.reported(handoff.Report{Event: handoff.Loaded})
	for range 3 {
		w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{map[string]any{"fd": 4}}, Callback: true})
		w.bound("a", sockets[1])
		w.says("called")
		w.reported(handoff.Report{Event: handoff.Listening, Address: sockets[1].Address, Held: true})
		w.answered("http", dial(t, sockets[1].Address))
		w.tell(command{Do: "close", ID: "a"})
		w.says("close")
		w.reported(handoff.Report{Event: handoff.Closed, Address: sockets[1].Address, Held: true})
	}
	first := sockets[0].Address
	w.tell(command{Do: "make", ID: "b", Kind: "http"}, command{Do: "listen", ID: "b", Args: []any{first.Port(), first.Addr().String()}})
	w.bound("b", sockets[0])
	w.reported(listening(first))
	w.finish()
}

// TestPassedEnvironment: what sd_listen_fds(3) wants is in the environment of the process that takes the sockets, and not that of
// those behind a shell in front of it.
func TestPassedEnvironment(t *testing.T) {
	t.Parallel()
	say := `console.log(JSON.stringify({event: "environment", title: [process.env.LISTEN_PID == process.pid, process.env.LISTEN_FDS, process.env.LISTEN_FDNAMES].join()}))`
	direct := start{kind: handoff.Preload, besides: handoff.Free, path: node(t), arguments: []string{"-e", say}}
	behind := shell(`"$NODE" -e "$SAY"; exit 0`)
	behind.environ = []string{"NODE=" + node(t), "SAY=" + say}
	become := shell(`exec "$NODE" -e "$SAY"`)
	become.environ = behind.environ
	none := shell(`echo '{"event": "environment", "title": "'"$([ $$ = "$LISTEN_PID" ] && echo true),$LISTEN_FDS,$LISTEN_FDNAMES"'"}'`)
	behind.kind, become.kind, none.kind = handoff.Auto, handoff.Auto, handoff.Auto
	for name, s := range map[string]start{"direct": direct, "behind a shell": behind, "in its place": become, "no Node.js": none} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.sockets = hold(t, "127.0.0.1")
			w := s.run(t)
			if got := w.says("environment").Title; got != "true,1,gateway" {
				t.Errorf("LISTEN_PID is its own, LISTEN_FDS, LISTEN_FDNAMES: %s", got)
			}
			w.exits(0)
		})
	}
}

// TestReportsTalkNonsense: what is no report does not keep the next one from being heard.
func TestReportsTalkNonsense(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"nonsense", `{"address": 1}`, `{"address": "localhost:1"}`, `{"address": "[::1]:undefined"}`, `[[[[[[[[`, strings.Repeat("x", 100_000)} {
		t.Run(text[:8], func(t *testing.T) {
			t.Parallel()
			given, err := handoff.New(handoff.Preload, handoff.Nothing, handoff.NoGate, nil, nil, t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer given.Close()
			go func() {
				_, _ = io.WriteString(given.Files()[0], text+"\n"+`{"event": "listening", "address": "127.0.0.1:1"}`+"\n")
				given.Started(os.Getpid())
			}()
			report, err := given.Reports().Next()
			if !errors.Is(err, handoff.ErrNonsense) || len(err.Error()) > 1000 {
				t.Errorf("the report is %+v, %v", report, err)
			}
			if report, err = given.Reports().Next(); err != nil || report.Event != handoff.Listening {
				t.Errorf("the one behind it is %+v, %v", report, err)
			}
			if report, err = given.Reports().Next(); err != io.EOF {
				t.Errorf("at the end: %+v, %v", report, err)
			}
		})
	}
}

func TestReportsClose(t *testing.T) {
	t.Parallel()
	given, err := handoff.New(handoff.Preload, handoff.Nothing, handoff.NoGate, nil, nil, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	next := make(chan error, 1)
	go func() {
		_, err := given.Reports().Next()
		next <- err
	}()
	if err := given.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-next:
		if err == nil {
			t.Error("Next returned a report")
		}
	case <-time.After(bound):
		t.Errorf("Next had not returned in %s", bound)
	}
}
