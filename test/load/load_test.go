package load

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/test/sockets"
)

const bound = 20 * time.Second

// serve answers each connection with f until the test ends.
func serve(t *testing.T, f func(*net.TCPConn)) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go f(conn.(*net.TCPConn))
		}
	}()
	return listener.Addr().String()
}

// answer reads the request, so that closing does not reset the connection, and replies.
func answer(reply string) func(*net.TCPConn) {
	return func(conn *net.TCPConn) {
		defer conn.Close()
		if _, err := conn.Read(make([]byte, 4096)); err == nil {
			_, _ = io.WriteString(conn, reply)
		}
	}
}

func TestEveryOutcomeIsCounted(t *testing.T) {
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	refused := sockets.Refused(t).String()
	for _, test := range []struct {
		name    string
		address string
		dial    func(context.Context, string, string) (net.Conn, error)
		want    func(Report) Report // the one count that is not zero
		says    string
	}{
		{
			"ok", serve(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")), nil,
			func(r Report) Report { return Report{OK: r.Requests} }, " ok (200)",
		},
		{
			"status", serve(t, answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")), nil,
			func(r Report) Report { return Report{Status: map[int]int{503: r.Requests}} }, " with status 503",
		},
		{
			"redirect", serve(t, answer("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n")), nil,
			func(r Report) Report { return Report{Status: map[int]int{302: r.Requests}} }, " with status 302",
		},
		{
			"refused", refused, nil,
			func(r Report) Report { return Report{Refused: r.Requests} }, " refused",
		},
		{
			"reset", serve(t, func(conn *net.TCPConn) {
				_, _ = conn.Read(make([]byte, 4096))
				_ = conn.SetLinger(0)
				conn.Close()
			}), nil,
			func(r Report) Report { return Report{Reset: r.Requests} }, " reset",
		},
		{
			"hung before the answer", serve(t, func(conn *net.TCPConn) {
				<-ended
				conn.Close()
			}), nil,
			func(r Report) Report { return Report{Hung: r.Requests} }, " hung",
		},
		{
			"hung in the answer", serve(t, func(conn *net.TCPConn) {
				_, _ = conn.Read(make([]byte, 4096))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh")
				<-ended
				conn.Close()
			}), nil,
			func(r Report) Report { return Report{Hung: r.Requests} }, " hung",
		},
		{
			"closed before the answer", serve(t, answer("")), nil,
			func(r Report) Report { return Report{Other: map[string]int{"EOF": r.Requests}} }, ` failed with "EOF"`,
		},
		{
			"closed in the answer", serve(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi")), nil,
			func(r Report) Report { return Report{Other: map[string]int{"unexpected EOF": r.Requests}} }, `"unexpected EOF"`,
		},
		{
			"dial", refused, func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") },
			func(r Report) Report { return Report{Other: map[string]int{"no way": r.Requests}} }, ` failed with "no way"`,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			limit := bound
			if strings.HasPrefix(test.name, "hung") {
				limit = 300 * time.Millisecond
			}
			l := Start(context.Background(), Options{URL: "http://" + test.address + "/", Dial: test.dial, Loops: 3, Limit: limit})
			awaitRequests(t, l, 6)
			got := l.Stop()

			want := test.want(got)
			want.Requests, want.Elapsed, want.LongestOK, want.LongestWait = got.Requests, got.Elapsed, got.LongestOK, got.LongestWait
			want.LongestSilence, want.Clients = got.LongestSilence, got.Clients
			if want.Status == nil {
				want.Status = map[int]int{}
			}
			if want.Other == nil {
				want.Other = map[string]int{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("counts (-want +got):\n%s", diff)
			}
			if wantLost := got.Requests - want.OK; got.Lost() != wantLost {
				t.Errorf("lost %d, want %d", got.Lost(), wantLost)
			}
			var each Client
			for _, client := range got.Clients {
				each.OK, each.Lost = each.OK+client.OK, each.Lost+client.Lost
			}
			if len(got.Clients) != 3 || each.OK != want.OK || each.Lost != got.Lost() {
				t.Errorf("of each client: %+v", got.Clients)
			}
			if got.Hung > 0 && got.LongestWait < limit {
				t.Errorf("hung, but waited no longer than %v", got.LongestWait)
			}
			if (got.LongestSilence > 0) != (got.OK > 0) || got.LongestSilence > got.Elapsed {
				t.Errorf("%d ok, and the longest silence in %v was %v", got.OK, got.Elapsed, got.LongestSilence)
			}
			if (got.LongestOK > 0) != (got.OK > 0) {
				t.Errorf("%d ok, of which the longest took %v", got.OK, got.LongestOK)
			}
			if s := got.String(); !strings.Contains(s, test.says) || strings.Contains(s, "\n") {
				t.Errorf("the report does not say %q in one paragraph: %s", test.says, s)
			}
		})
	}
}

// awaitRequests waits until n requests have ended, however.
func awaitRequests(t *testing.T, l *Load, n int) {
	t.Helper()
	end := time.After(bound)
	for {
		l.mu.Lock()
		got, changed := l.report.Requests, l.changed
		l.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("fewer than %d requests within %v: %s", n, bound, l.Report())
		}
	}
}

func TestStopLetsRequestsFinish(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	address := serve(t, func(conn *net.TCPConn) {
		arrived <- struct{}{}
		<-release
		answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(conn)
	})
	ctx, cancel := context.WithCancel(context.Background())
	l := Start(ctx, Options{URL: "http://" + address, Loops: 2})
	<-arrived
	<-arrived
	cancel()
	close(release)
	if r := l.Stop(); r.OK != 2 || r.Requests != 2 {
		t.Errorf("two requests were under way at the end: %s", r)
	}
}

func TestEachRequestHasItsConnection(t *testing.T) {
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	connections := 0 // written by the one loop alone, read when it has ended
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	l := Start(context.Background(), Options{
		URL: "http://" + listener.Addr().String(), Loops: 1,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			connections++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
	})
	awaitRequests(t, l, 5)
	if r := l.Stop(); r.Requests != connections {
		t.Errorf("%d connections: %s", connections, r)
	}
}

func TestAnsweredGetsEachBody(t *testing.T) {
	address := serve(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	bodies := 0 // written by the one loop alone, read when it has ended
	l := Start(context.Background(), Options{URL: "http://" + address, Loops: 1, Answered: func(body string) {
		if bodies++; body != "hi" {
			t.Errorf("the body is %q", body)
		}
	}})
	awaitRequests(t, l, 5)
	if r := l.Stop(); r.OK != bodies {
		t.Errorf("%d bodies: %s", bodies, r)
	}
}

func TestWaitOK(t *testing.T) {
	address := serve(t, answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	l := Start(ctx, Options{URL: "http://" + address})
	before := l.Report().OK
	if err := l.WaitOK(ctx, 10); err != nil {
		t.Fatal(err)
	}
	if got := l.Report().OK; got < before+10 {
		t.Errorf("%d answers after waiting for 10 more than %d", got, before)
	}
	short, cancelShort := context.WithCancel(ctx)
	cancelShort()
	if err := l.WaitOK(short, 1<<30); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	before = l.Report().OK
	if err := l.WaitEach(ctx); err != nil {
		t.Fatal(err)
	}
	if report := l.Report(); report.OK < before+2*len(report.Clients) {
		t.Errorf("%+v after %d answers", report.Clients, before)
	}
	if err := l.WaitEach(short); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
	l.Stop()
	if err := l.WaitOK(ctx, 1); err == nil {
		t.Error("an answer after the end")
	}
}
