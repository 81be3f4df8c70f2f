package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
)

// TestProbeHTTP: an answer that is not ready is told, and the path asked for again, by auto as well.
func TestProbeHTTP(t *testing.T) {
	t.Parallel()
	for probe, unready := range map[Probe]int{ProbeHTTP: 2, ProbeAuto: 1} {
		t.Run(string(probe), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve", fmt.Sprintf("unready=%d", unready)))
			r.spec.Probe, r.spec.ReadyPath = probe, "/ready"
			r.run()
			r.await(Ready)
			if got := strings.Count(r.log.String(), "was answered with 503"); got != unready {
				t.Errorf("%d requests were answered with 503, want %d", got, unready)
			}
		})
	}
}

func testProber(answerTimeout time.Duration) prober {
	own := new(ownConnections)
	return prober{answerTimeout: answerTimeout, unaccepted: new(testQueues).Unaccepted, connected: own.add, answered: own.answered}
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
	held := []handoff.Socket{{Address: netip.MustParseAddrPort(plain.Listener.Addr().String())}}
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
		within(t, test.path, func() error {
			return testProber(time.Second).awaitPath(t.Context(), Spec{Sockets: held, ReadyPath: test.path}, func(text string) { said = append(said, text) })
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
	closed := httptest.NewServer(nil)
	closed.Close()
	mute := acceptAll(t, listen(t, "127.0.0.1"))
	for path, want := range map[string]string{
		missing.URL + "/":           "was answered with 404 Not Found",
		closed.URL + "/":            "connection refused",
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
		ctx, cancel := context.WithCancelCause(t.Context())
		enough := errors.New("enough")
		count := 0
		within(t, path, func() error {
			err := testProber(10*time.Millisecond).awaitPath(ctx, Spec{ReadyPath: path + query, ReadyShown: path}, func(text string) {
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
func acceptAll(t *testing.T, socket handoff.Socket) (address string) {
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

func TestProbeAdopted(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"greet", "close", "silence"} {
		t.Run(then, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "accept", "then="+then, "gate="+gate))
			r.run()
			r.await(Starting)
			opened := time.Now()
			open(t, gate)
			if s := r.await(Ready); s.Since.Before(opened) {
				t.Errorf("ready before it accepted: %+v", s)
			}
		})
	}
}

// accept takes a connection, which the caller closes.
func accept(t *testing.T, socket handoff.Socket) int {
	t.Helper()
	var fd int
	within(t, "a connection is in the queue", func() (err error) {
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
	probes := map[string]func(context.Context, Spec) error{
		"adopted": func(ctx context.Context, spec Spec) error {
			return testProber(patience).awaitAnswers(ctx, spec, func(text string) { t.Error(text) })
		},
		"http": func(ctx context.Context, spec Spec) error {
			return testProber(patience).awaitPath(ctx, spec, func(text string) { t.Error(text) })
		},
		"https": func(ctx context.Context, spec Spec) error {
			spec.ReadyPath = "https://" + spec.Sockets[0].Address.String() + "/"
			return testProber(patience).awaitPath(ctx, spec, func(string) {})
		},
	}
	for name, probe := range probes {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(name+" "+host, func(t *testing.T) {
				t.Parallel()
				socket := listen(t, host)
				for range clients {
					sockets.Dial(t, socket.Address)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- probe(ctx, Spec{Sockets: []handoff.Socket{socket}, ReadyPath: "/"}) }()
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
				if n := queued(t, socket); n != 1 {
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
				if n := queued(t, socket); n != 0 {
					t.Errorf("%d connections are in the queue afterwards", n)
				}
			})
		}
	}
}

// TestProbeOfEachSocket: the worker has to accept on all of them.
func TestProbeOfEachSocket(t *testing.T) {
	t.Parallel()
	spec := Spec{Sockets: []handoff.Socket{listen(t, "127.0.0.1"), listen(t, "::1")}}
	done := make(chan error, 1)
	go func() {
		done <- testProber(time.Hour).awaitAnswers(t.Context(), spec, func(text string) { t.Error(text) })
	}()
	for _, socket := range spec.Sockets {
		select {
		case err := <-done:
			t.Fatalf("before %s was accepted: %v", socket.Address, err)
		default:
		}
		if err := unix.Close(accept(t, socket)); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "both were accepted", func() error { return <-done })
}

// TestProbeOfClosedQueue: a connection that cannot be made says nothing about
// the worker, so it is tried again.
func TestProbeOfClosedQueue(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	if err := unix.Shutdown(int(socket.File.Fd()), unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	refused := make(chan string, 100)
	go func() {
		done <- testProber(time.Hour).awaitAnswers(t.Context(), Spec{Sockets: []handoff.Socket{socket}}, func(text string) { refused <- text })
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
	within(t, "the second try was accepted", func() error { return <-done })
}

// TestProbeGivenUp: no connection of a generation that ends is left open.
func TestProbeGivenUp(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		socket := listen(t, "127.0.0.1")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := testProber(time.Hour).exchange(ctx, http.MethodGet, scheme+"://"+socket.Address.String()+"/")
			done <- err
		}()
		fd := accept(t, socket)
		defer unix.Close(fd)
		cancel()
		within(t, "the exchange ends with its context", func() error {
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

func TestReadyURL(t *testing.T) {
	t.Parallel()
	for held, want := range map[string]string{
		"127.0.0.1:1":      "http://127.0.0.1:1/p?q=%20",
		"0.0.0.0:1":        "http://127.0.0.1:1/p?q=%20",
		"[::]:1":           "http://[::1]:1/p?q=%20",
		"[fe80::1%eth0]:1": "http://[fe80::1%25eth0]:1/p?q=%20",
	} {
		spec := Spec{Sockets: []handoff.Socket{{Address: netip.MustParseAddrPort(held)}}, ReadyPath: "/p?q=%20"}
		if got := readyURL(spec, spec.ReadyPath); got != want {
			t.Errorf("%s: %s, want %s", held, got, want)
		}
		if _, err := http.NewRequest(http.MethodGet, readyURL(spec, spec.ReadyPath), nil); err != nil {
			t.Error(err)
		}
	}
	if got := readyURL(Spec{}, "https://host.example/x"); got != "https://host.example/x" {
		t.Error(got)
	}
}

func TestLoopback(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]bool{
		"https://127.0.0.1:1/": true, "https://127.9.9.9/": true, "https://[::1]:1/": true, "https://localhost:1/": true,
		"https://192.0.2.1/": false, "https://localhost.example/": false, "https://127.0.0.1.example/": false,
	} {
		req, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := loopback(req.URL); got != want {
			t.Errorf("%s: %t", target, got)
		}
	}
}

// TestAnsweredRequests: only a request that was given up may be in the queue
// still; the address of one that was answered can be somebody else's later.
func TestAnsweredRequests(t *testing.T) {
	t.Parallel()
	answers := httptest.NewServer(http.NotFoundHandler())
	defer answers.Close()
	silent := listen(t, "127.0.0.1")
	own := new(ownConnections)
	probes := testProber(time.Hour)
	probes.connected, probes.answered = own.add, own.answered
	if _, err := probes.exchange(t.Context(), http.MethodGet, answers.URL); err != nil {
		t.Fatal(err)
	}
	if got := own.waiting(); got != nil || len(own.from()) != 1 {
		t.Errorf("an answered request: %v may wait, of %d", got, len(own.from()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	probes.connected = func(conn net.Conn) {
		own.add(conn)
		cancel()
	}
	if _, err := probes.exchange(ctx, http.MethodGet, "http://"+silent.Address.String()); err == nil {
		t.Error("nobody has answered: no error")
	}
	if got := own.waiting(); got == nil || len(own.from()) != 2 {
		t.Errorf("a request that was given up: %v may wait, of %d", got, len(own.from()))
	}
}
