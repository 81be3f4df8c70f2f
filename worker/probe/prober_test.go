package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/test/wait"
)

// bound is how long a test waits for what has to happen.
const bound = 30 * time.Second

// hold holds a socket as systemd would.
func hold(t *testing.T, host string) sockets.Held {
	t.Helper()
	return sockets.Hold(t, host)[0]
}

func testProber(answerTimeout time.Duration) Prober {
	own := new(Connections)
	return Prober{
		AnswerTimeout: answerTimeout, Unaccepted: sockets.Unaccepted, Connected: own.Add, Answered: own.Answered,
		Displaced: func(netaddr.Address) bool { return false },
		Reach:     func(address netaddr.Address) (netaddr.Address, bool) { return address, true },
	}
}

// TestAwaitPath runs the probe against servers that are not the worker.
func TestAwaitPath(t *testing.T) {
	t.Parallel()
	unready := 2
	handler := http.NewServeMux()
	handler.HandleFunc("/unready", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			t.Errorf("%s", r.Method)
		}
		if unready--; unready >= 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	handler.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
	})
	handler.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	plain, encrypted := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer encrypted.Close()
	held := netaddr.MustParse(plain.Listener.Addr().String())
	for _, test := range []struct {
		path       string
		complaints int
	}{
		{"/unready", 2},
		{"/unready?with=query", 0},
		{"/elsewhere", 0},
		{"/endless", 0},
		{plain.URL + "/elsewhere", 0},
		{encrypted.URL + "/elsewhere", 0},
	} {
		var said []string
		wait.Within(t, bound, test.path, func() error {
			return testProber(time.Hour).AwaitPath(t.Context(), At(held, test.path), Target{url: test.path}, func(text string) { said = append(said, text) })
		})
		if len(said) != test.complaints {
			t.Errorf("%s: %q", test.path, said)
		}
	}
}

// TestAwaitPathSays: what came instead of an answer is told, and it goes on.
func TestAwaitPathSays(t *testing.T) {
	t.Parallel()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	refused := sockets.Refused(t).String()
	mute := acceptAll(t, hold(t, "127.0.0.1"))
	for path, want := range map[string]string{
		missing.URL + "/":           "was answered with 404 Not Found",
		"http://" + refused + "/":   "connection refused",
		"http://" + mute + "/":      "accepted, and not answered in 10ms",
		"https://" + mute + "/":     "accepted, and not answered in 10ms",
		"https://no host/":          "invalid character",
		"ftp://" + mute + "/":       "unsupported protocol scheme",
		"http://" + mute + "/\x7f/": "invalid control character",
	} {
		query := "?secret"
		if _, err := url.Parse(path); err != nil {
			query = "" // the configuration has no such path, and the error has all of it
		}
		patience := bound
		if strings.Contains(path, mute) {
			patience = 10 * time.Millisecond
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		count := 0
		wait.Within(t, bound, path, func() error {
			err := testProber(patience).AwaitPath(ctx, Target{url: path + query}, Target{url: path}, func(text string) {
				if !strings.HasPrefix(text, "GET "+path) || !strings.Contains(text, want) || strings.Contains(text, "?secret") {
					t.Errorf("%s: said %q, want %q in it", path, text, want)
				}
				if count++; count == 2 {
					cancel(enough)
				}
			})
			if !errors.Is(err, enough) {
				t.Errorf("%s: %v", path, err)
			}
			return nil
		})
		cancel(nil)
	}
}

// acceptAll accepts every connection and is silent.
func acceptAll(t *testing.T, socket sockets.Held) (address string) {
	t.Helper()
	listener, err := net.FileListener(socket.File)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		var kept []net.Conn
		for {
			conn, err := listener.Accept()
			if err != nil {
				for _, conn := range kept {
					conn.Close()
				}
				return
			}
			kept = append(kept, conn)
		}
	}()
	return socket.Address.String()
}

// accept takes a connection, which the caller closes.
func accept(t *testing.T, socket sockets.Held) int {
	t.Helper()
	var fd int
	wait.Within(t, bound, "a connection is in the queue", func() (err error) {
		for {
			fd, _, err = unix.Accept4(int(socket.File.Fd()), unix.SOCK_CLOEXEC)
			if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	})
	return fd
}

// TestOneProbeInTheQueue lets clients and a probe wait for a worker that takes
// its time.
func TestOneProbeInTheQueue(t *testing.T) {
	t.Parallel()
	const clients, patience = 3, time.Second
	probes := map[string]func(context.Context, netaddr.Address) error{
		"adopted": func(ctx context.Context, held netaddr.Address) error {
			return testProber(patience).AwaitAnswers(ctx, []netaddr.Address{held}, func(text string) { t.Error(text) })
		},
		"http": func(ctx context.Context, held netaddr.Address) error {
			return testProber(patience).AwaitPath(ctx, At(held, "/"), Target{url: "/"}, func(text string) { t.Error(text) })
		},
		"https": func(ctx context.Context, held netaddr.Address) error {
			return testProber(patience).AwaitPath(ctx, Target{url: "https://" + held.String() + "/"}, Target{url: "/"}, func(string) {})
		},
	}
	for name, probe := range probes {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(name+" "+host, func(t *testing.T) {
				t.Parallel()
				socket := hold(t, host)
				for range clients {
					sockets.Dial(t, socket.Address)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- probe(ctx, socket.Address) }()
				quiet := func() {
					t.Helper()
					select {
					case err := <-done:
						t.Fatalf("nobody has accepted the probe, and it says %v", err)
					case <-time.After(5 * patience / 2):
					}
				}
				quiet()
				for range clients {
					defer unix.Close(accept(t, socket))
				}
				quiet()
				if n, _ := sockets.Queue(t, socket.File); n != 1 {
					t.Fatalf("%d connections are in the queue besides the clients', want 1", n)
				}
				fd := accept(t, socket)
				defer unix.Close(fd)
				if name == "https" {
					cancel()
				} else if _, err := unix.Write(fd, []byte("HTTP/1.1 204 No Content\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				select {
				case err := <-done:
					if err != nil && name != "https" {
						t.Error(err)
					}
				case <-time.After(bound):
					t.Fatal("the probe was answered and goes on")
				}
				if n, _ := sockets.Queue(t, socket.File); n != 0 {
					t.Errorf("%d connections are in the queue afterwards", n)
				}
			})
		}
	}
}

// TestProbeOfEachSocket: the worker has to accept on all of them.
func TestProbeOfEachSocket(t *testing.T) {
	t.Parallel()
	both := []sockets.Held{hold(t, "127.0.0.1"), hold(t, "::1")}
	done := make(chan error, 1)
	go func() {
		done <- testProber(time.Hour).AwaitAnswers(t.Context(), []netaddr.Address{both[0].Address, both[1].Address}, func(text string) { t.Error(text) })
	}()
	for _, socket := range both {
		select {
		case err := <-done:
			t.Fatalf("before %s was accepted: %v", socket.Address, err)
		default:
		}
		if err := unix.Close(accept(t, socket)); err != nil {
			t.Fatal(err)
		}
	}
	wait.Within(t, bound, "both were accepted", func() error { return <-done })
}

// TestProbeOfWhatCannotBeAsked: the clients of such an address tell instead, that nobody waits, and so does a connection
// that leads nowhere.
func TestProbeOfWhatCannotBeAsked(t *testing.T) {
	t.Parallel()
	nowhere := netaddr.MustParse("[100::1%lo]:9") // RFC 6666: discarded
	for name, held := range map[string]netaddr.Address{"not askable": hold(t, "127.0.0.1").Address, "unreachable": nowhere} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			probes, queued := testProber(time.Hour), make(chan int)
			probes.Reach = func(address netaddr.Address) (netaddr.Address, bool) { return address, address == nowhere }
			probes.Connected = func(net.Conn) { t.Error("a connection was made") }
			probes.QueuedOn = func(address netaddr.Address) (int, error) {
				if address != held {
					t.Errorf("the queue of %s was looked at", address)
				}
				return <-queued, nil
			}
			done, said := make(chan error, 1), make(chan string, 1)
			go func() {
				done <- probes.AwaitAnswers(t.Context(), []netaddr.Address{held}, func(text string) { said <- text })
			}()
			queued <- 2
			if text := <-said; !strings.Contains(text, "clients wait on "+held.String()) {
				t.Errorf("said %q", text)
			}
			select {
			case err := <-done:
				t.Fatalf("ended with %v while clients wait", err)
			default:
			}
			queued <- 0
			wait.Within(t, bound, "nobody waits", func() error { return <-done })
		})
	}
}

// TestProbeOfClosedQueue: a connection that cannot be made says nothing about
// the worker, so it is tried again.
func TestProbeOfClosedQueue(t *testing.T) {
	t.Parallel()
	socket := hold(t, "127.0.0.1")
	if err := unix.Shutdown(int(socket.File.Fd()), unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	refused := make(chan string, 100)
	go func() {
		done <- testProber(time.Hour).AwaitAnswers(t.Context(), []netaddr.Address{socket.Address}, func(text string) { refused <- text })
	}()
	select {
	case text := <-refused:
		if !strings.Contains(text, "connection refused") {
			t.Errorf("said %q", text)
		}
	case err := <-done:
		t.Fatalf("adopted, or given up: %v", err)
	case <-time.After(bound):
		t.Fatal("nothing said")
	}
	if err := unix.Listen(int(socket.File.Fd()), 128); err != nil {
		t.Fatal(err)
	}
	fd := accept(t, socket)
	defer unix.Close(fd)
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	wait.Within(t, bound, "the second try was accepted", func() error { return <-done })
}

// TestProbeGivenUp: no connection of a generation that ends is left open.
func TestProbeGivenUp(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		socket := hold(t, "127.0.0.1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := testProber(time.Hour).exchange(ctx, http.MethodGet, Target{url: scheme + "://" + socket.Address.String() + "/"})
			done <- err
		}()
		fd := accept(t, socket)
		defer unix.Close(fd)
		cancel()
		wait.Within(t, bound, "the exchange ends with its context", func() error {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", scheme, err)
			}
			for buffer := make([]byte, 1024); ; {
				n, err := unix.Read(fd, buffer)
				if errors.Is(err, unix.EINTR) {
					continue
				}
				if n <= 0 {
					return nil // closed, or reset
				}
			}
		})
	}
}

func TestAt(t *testing.T) {
	t.Parallel()
	for held, want := range map[string]string{
		"127.0.0.1:1":      "http://127.0.0.1:1/p?q=%20",
		"[::1]:1":          "http://[::1]:1/p?q=%20",
		"[fe80::1%eth0]:1": "http://[fe80::1%25eth0]:1/p?q=%20",
	} {
		got := At(netaddr.MustParse(held), "/p?q=%20").String()
		if got != want {
			t.Errorf("%s: %s, want %s", held, got, want)
		}
		if _, err := http.NewRequest(http.MethodGet, got, nil); err != nil {
			t.Error(err)
		}
	}
	if got := At(netaddr.Address{}, "https://host.example/x").String(); got != "https://host.example/x" {
		t.Error(got)
	}
}

// ends are a connection that nobody has.
type ends struct {
	net.Conn
	server, client string
}

func (e ends) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(e.server))
}

func (e ends) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(e.client)) }

func TestStaysHere(t *testing.T) {
	t.Parallel()
	for conn, want := range map[ends]bool{
		{server: "127.0.0.1:1", client: "127.0.0.1:2"}:           true,
		{server: "127.9.9.9:1", client: "127.0.0.1:2"}:           true,
		{server: "[::1]:1", client: "[::1]:2"}:                   true,
		{server: "10.7.7.7:1", client: "10.7.7.7:2"}:             true,
		{server: "[2001:db8::1]:1", client: "[2001:db8::1]:2"}:   true,
		{server: "[fe80::1%eth0]:1", client: "[fe80::1%eth0]:2"}: true,
		{server: "10.7.7.7:1", client: "10.7.7.8:1"}:             false,
		{server: "[2001:db8::1]:1", client: "[2001:db8::2]:1"}:   false,
		{server: "203.0.113.1:1", client: "10.7.7.7:2"}:          false,
	} {
		if got := staysHere(conn); got != want {
			t.Errorf("%s from %s: %t", conn.server, conn.client, got)
		}
	}
}

// byNameOnly has a certificate for one name, and nothing but a 400 for who asks for another one.
func byNameOnly(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if name, _, _ := strings.Cut(r.Host, ":"); name != "app.example.org" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	return server
}

// TestAskByName: a server that answers to its own name alone is asked by that, and the complaint says how where it is not.
func TestAskByName(t *testing.T) {
	t.Parallel()
	plain, encrypted, overUnix := byNameOnly(t), byNameOnly(t), byNameOnly(t)
	plain.Start()
	encrypted.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if hello.ServerName != "app.example.org" {
			return nil, errors.New("nobody of that name is here")
		}
		return nil, nil
	}}
	encrypted.StartTLS()
	path := filepath.Join(t.TempDir(), "s")
	_ = overUnix.Listener.Close()
	var err error
	if overUnix.Listener, err = net.Listen("unix", path); err != nil {
		t.Fatal(err)
	}
	overUnix.StartTLS()
	_, port, _ := net.SplitHostPort(encrypted.Listener.Addr().String())
	const own = "if it answers to its own name alone, write that into ready.host"
	ask := "it speaks TLS there: ask for https://" + encrypted.Listener.Addr().String() + "/ready (ready.path, alive.path)"
	for _, test := range []struct {
		url, socket, host string
		said              []string // none: it is a good answer
	}{
		{plain.URL + "/ready", "", "", []string{"400 Bad Request", own}},
		{plain.URL + "/ready", "", "other.example.org", []string{"400 Bad Request"}},
		{plain.URL + "/ready", "", "app.example.org", nil},
		{plain.URL + "/ready", "", "app.example.org:8443", nil},
		{encrypted.URL + "/ready", "", "", []string{"remote error: tls", own}},
		{encrypted.URL + "/ready", "", "app.example.org", nil},
		{encrypted.URL + "/ready", "", "app.example.org:8443", nil},
		{"http://" + encrypted.Listener.Addr().String() + "/ready", "", "", []string{ask, own}},
		{"http://" + encrypted.Listener.Addr().String() + "/ready", "", "app.example.org", []string{ask}},
		// Not by name an address of loopback, and one of this machine all the same.
		{"https://0.0.0.0:" + port + "/ready", "", "app.example.org", nil},
		// What it is advised to ask for leads elsewhere.
		{"http://localhost/ready", path, "app.example.org", []string{"over unix:" + path, "it speaks TLS there", "no path (ready.path, alive.path)"}},
	} {
		target := Target{url: test.url, socket: test.socket, Host: test.host}
		said := testProber(10*time.Second).Ask(t.Context(), target, target)
		if (said == "") != (test.said == nil) || strings.Contains(said, own) != slices.Contains(test.said, own) || strings.Contains(said, "ask for") != slices.Contains(test.said, ask) {
			t.Errorf("%s: %q", target, said)
		}
		for _, words := range test.said {
			if !strings.Contains(said, words) {
				t.Errorf("%s: %q, want %q in it", target, said, words)
			}
		}
	}
}

// TestAnsweredRequests: only a request that was given up may be in the queue
// still; the address of one that was answered can be somebody else's later.
func TestAnsweredRequests(t *testing.T) {
	t.Parallel()
	answers := httptest.NewServer(http.NotFoundHandler())
	defer answers.Close()
	silent := hold(t, "127.0.0.1")
	own := new(Connections)
	probes := testProber(time.Hour)
	probes.Connected, probes.Answered = own.Add, own.Answered
	if _, err := probes.exchange(t.Context(), http.MethodGet, Target{url: answers.URL}); err != nil {
		t.Fatal(err)
	}
	if got := own.Waiting(); got != nil || len(own.From()) != 1 {
		t.Errorf("an answered request: %v may wait, of %d", got, len(own.From()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	probes.Connected = func(conn net.Conn) {
		own.Add(conn)
		cancel()
	}
	if _, err := probes.exchange(ctx, http.MethodGet, Target{url: "http://" + silent.Address.String()}); err == nil {
		t.Error("nobody has answered: no error")
	}
	if got := own.Waiting(); got == nil || len(own.From()) != 2 {
		t.Errorf("a request that was given up: %v may wait, of %d", got, len(own.From()))
	}
}

// TestAskOverTLS: who asks a TLS server without TLS is told so, however that answers; and nobody else is.
func TestAskOverTLS(t *testing.T) {
	t.Parallel()
	quiet := log.New(io.Discard, "", 0)
	encrypted := httptest.NewUnstartedServer(http.NotFoundHandler())
	encrypted.Config.ErrorLog = quiet
	encrypted.StartTLS()
	defer encrypted.Close()
	// As Node.js: it says nothing to who does not speak TLS.
	strict := tls.NewListener(listen(t), encrypted.TLS)
	go func() {
		for {
			conn, err := strict.Accept()
			if err != nil {
				return
			}
			// The answer follows the request: what comes before it is not taken for one.
			if _, err := conn.Read(make([]byte, 1)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			}
			_ = conn.Close()
		}
	}()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer plain.Close()
	closing := listen(t)
	go func() {
		for {
			conn, err := closing.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
	}()
	for name, test := range map[string]struct {
		address string
		speaks  bool
	}{
		"Go":             {encrypted.Listener.Addr().String(), true},
		"closes":         {strict.Addr().String(), true},
		"a 400":          {plain.Listener.Addr().String(), false},
		"closes for all": {closing.Addr().String(), false},
	} {
		target := Target{url: "http://" + test.address + "/ready"}
		said := testProber(10*time.Second).Ask(t.Context(), target, target)
		if want := ": it speaks TLS there: ask for https://" + test.address + "/ready (ready.path, alive.path)"; said == "" || strings.Contains(said, want) != test.speaks {
			t.Errorf("%s: %q", name, said)
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}
