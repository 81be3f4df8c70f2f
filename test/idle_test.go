package test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"openclaw-gateway/test/machine"
)

const configFile = "/etc/openclaw-gateway/config.yaml"

// idleStop is what the tests below configure.
const idleStop = 2 * time.Second

// atRest waits until the launcher has left systemd alone with the sockets.
func atRest(t *testing.T, m *machine.Machine) machine.Unit {
	t.Helper()
	unit := m.WaitUnit(t, service, 2*bound, machine.Inactive)
	if unit.ActiveState != "inactive" || unit.ExecMainStatus != 75 || unit.Result != "success" {
		t.Fatalf("%s is %+v, want it inactive after exit status 75\n%s", service, unit, m.Journal(t, service))
	}
	if state := m.Unit(t, socket).ActiveState; state != "active" {
		t.Fatalf("%s is %s", socket, state)
	}
	return unit
}

// TestIdleStop: nobody is connected, so there is no worker and no launcher; the
// next client has both started again.
func TestIdleStop(t *testing.T) { inScopes(t, testIdleStop) }

func testIdleStop(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "worker: {idle_stop: 2s}\n")
	held := inodes(t, m)
	for range 3 {
		// From here on: when exactly the connection ends, a busy machine does not tell.
		came := time.Now()
		if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Fatalf("%s answered %d %s", ipv4, code, body)
		}
		atRest(t, m)
		if passed := time.Since(came); passed < idleStop {
			t.Errorf("stopped %s after a client came, want %s at least", passed, idleStop)
		}
		s := gatewayStatus(t, m.Scope)
		if s.Verdict != "waiting" || s.Unit.ActiveState != "inactive" || len(s.Problems) > 0 {
			t.Errorf("the status is %+v, want waiting", s)
		}
		if code := exitCode(t, m.Command(t.Context(), gatewayPath, "status")); code != 0 {
			t.Errorf("gateway status exits with %d, want 0", code)
		}
	}
	if now := inodes(t, m); len(now) != 2 || now[ipv4] != held[ipv4] || now[ipv6] != held[ipv6] {
		t.Errorf("the sockets' inodes were %v and are %v", held, now)
	}
	if journal := m.Journal(t, service); !strings.Contains(journal, "nobody has been connected") || strings.Contains(journal, "Scheduled restart") {
		t.Errorf("the journal does not say why, or systemd has restarted the launcher by itself:\n%s", journal)
	}
}

// TestIdleStopLeavesProbesOut: what the launcher asks its worker is no client, so
// a worker that nobody connects to is stopped, also one that started at once.
func TestIdleStopLeavesProbesOut(t *testing.T) { inScopes(t, testIdleStopLeavesProbesOut) }

func testIdleStopLeavesProbesOut(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "worker: {idle_stop: 2s, start: at-once}\nready: {probe: http, path: /healthz}\n")
	m.Systemctl(t, "start", service)
	atRest(t, m)
}

// TestIdleStopInTheVeryMoment: clients that come as soon as the worker is seen not
// to serve any more, wherever it and the launcher stand on their way out then.
func TestIdleStopInTheVeryMoment(t *testing.T) { inScopes(t, testIdleStopInTheVeryMoment) }

func testIdleStopInTheVeryMoment(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	install(t, m.Scope, m, "worker: {idle_stop: 300ms}\n")
	moments := map[string]func(machine.Unit) bool{
		"reloading": func(u machine.Unit) bool { return u.ActiveState != "active" && u.ActiveState != "activating" },
		"deactivating": func(u machine.Unit) bool {
			return u.ActiveState == "deactivating" || u.ActiveState == "inactive"
		},
		"inactive": machine.Inactive,
	}
	for range 4 {
		for name, moment := range moments {
			if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
				t.Fatalf("%s answered %d %s", ipv4, code, body)
			}
			m.WaitUnit(t, service, 2*bound, moment)
			code, body, err := tryGet(t.Context(), m, ipv6, "/healthz")
			if err != nil || code != http.StatusOK {
				t.Errorf("a client that came at %q got %d %s (%v)\n%s", name, code, body, err, m.Journal(t, service))
			}
		}
	}
	atRest(t, m)
}

// TestIdleStopWithClientInQueue: who comes while the idle worker takes its time to
// end waits for that, and gets the next generation of the same launcher.
func TestIdleStopWithClientInQueue(t *testing.T) { inScopes(t, testIdleStopWithClientInQueue) }

func testIdleStopWithClientInQueue(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	fifo := m.RuntimeDir() + "/linger"
	m.Run(t, "mkfifo", fifo)
	install(t, m.Scope, m, worker(nodePath, workersPath+"/linger.js")+
		"  environment: [LINGER="+fifo+"]\n  idle_stop: 2s\n")
	if _, body := get(t, m, ipv4, "/"); generationOf(body) != 1 {
		t.Fatalf("%s answered %s", ipv4, body)
	}
	statusText(t, m.Scope, "is stopping", "nobody was connected")
	old := gatewayStatus(t, m.Scope)
	if old.Worker.State != "stopping" {
		t.Errorf("the worker is %s", old.Worker.State)
	}
	end := openPipe(t, m, fifo) // which the worker reads as soon as it has closed its listeners: before, it could accept the client
	conn, err := m.DialContext(t.Context(), "tcp", ipv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if queued := gatewayStatus(t, m.Scope).Sockets[0].Queued; queued != 1 {
		t.Errorf("%d clients wait in the queue, want 1", queued)
	}
	end()
	if err := conn.SetDeadline(time.Now().Add(2 * bound)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("the client that came while the worker ended: %v\n%s", err, m.Journal(t, service))
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("the client that came while the worker ended was answered with %s", response.Status)
	}
	now := gatewayStatus(t, m.Scope)
	if now.Launcher.PID != old.Launcher.PID || now.Worker.Generation != 2 || now.Worker.LastExit.Reason != "idle" {
		t.Errorf("the status is %+v, want generation 2 of the same launcher", now)
	}
}

// openPipe opens a FIFO, and returns when somebody reads it; end closes it.
func openPipe(t *testing.T, m *machine.Machine, fifo string) (end func()) {
	t.Helper()
	return holder(t, m, "/bin/sh", "-c", "exec 3>"+fifo+"; echo open; read line || true")
}

// TestIdleStopOfConnected: a WebSocket on which nothing is said is a client, for
// as long as it is open; and an edit counts at once, in either direction.
func TestIdleStopOfConnected(t *testing.T) { inScopes(t, testIdleStopOfConnected) }

func testIdleStopOfConnected(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	without := worker(nodePath, workersPath+"/websocket.js")
	with := without + "  idle_stop: 2s\n"
	install(t, m.Scope, m, without)
	client := dialWebSocket(t, m, ipv4)
	serving(t, m.Scope, 1)
	first := gatewayStatus(t, m.Scope)
	edit := func(configuration string) {
		t.Helper()
		m.WriteFile(t, configPath(m.Scope), configuration, 0o644)
		m.Run(t, gatewayPath, "reload")
	}
	unchanged := func(why string) {
		t.Helper()
		if now := gatewayStatus(t, m.Scope); now.Worker.PID != first.Worker.PID || now.Worker.State != "ready" || now.Config.State != "applied" {
			t.Errorf("%s: the status is %+v, want worker %d as it was", why, now, first.Worker.PID)
		}
	}

	edit(with)
	client.staysOpen(t, 4*idleStop)
	unchanged("a client is connected")
	edit(without)
	client.close(t)
	<-time.After(2 * idleStop) // for what must not happen
	unchanged("it is switched off again")
	switched := time.Now()
	edit(with)
	atRest(t, m)
	if passed := time.Since(switched); passed < idleStop {
		t.Errorf("stopped %s after it was switched on, want %s at least", passed, idleStop)
	}
	if journal := m.Journal(t, service); !strings.Contains(journal, `key=worker.idle_stop from=0s to=2s takes_effect="at once"`) {
		t.Errorf("the edit is not explained in the journal:\n%s", journal)
	}
	client = dialWebSocket(t, m, ipv4)
	client.staysOpen(t, 2*idleStop)
	client.close(t)
	atRest(t, m)
}

// TestIdleStopByHand: there is nobody who would start the launcher again, so it
// stays, and waits itself.
func TestIdleStopByHand(t *testing.T) { inScopes(t, testIdleStopByHand) }

func testIdleStopByHand(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	m.WriteFile(t, configPath(m.Scope), "worker: {idle_stop: 1s}\n", 0o644)
	h := runByHand(t, m)
	for generation := 1; generation <= 2; generation++ {
		if code, body := get(t, m, ipv4, "/healthz"); code != http.StatusOK {
			t.Fatalf("%s answered %d %s", ipv4, code, body)
		}
		for deadline := time.Now().Add(2 * bound); ; {
			s := gatewayStatus(t, m.Scope)
			if s.Worker.Generation == generation && s.Worker.State == "waiting" {
				if s.Verdict != "waiting" || s.Worker.LastExit.Reason != "idle" || s.Worker.PID != 0 {
					t.Errorf("the status is %+v", s)
				}
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the status is still %+v\n%s", s, h.logged())
			}
		}
	}
}

// webSocket is one to websocket.js on which nothing is said.
type webSocket struct {
	conn  *websocket.Conn
	ended chan error // what the next read returned
}

func dialWebSocket(t *testing.T, m *machine.Machine, address string) *webSocket {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*bound)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+address, &websocket.DialOptions{HTTPClient: m.HTTP()})
	if err != nil {
		t.Fatal(err)
	}
	s := &webSocket{conn: conn, ended: make(chan error, 1)}
	go func() {
		_, _, err := conn.Read(context.Background())
		s.ended <- err
	}()
	t.Cleanup(func() { conn.CloseNow() })
	return s
}

// staysOpen fails when the server closes it within the time.
func (s *webSocket) staysOpen(t *testing.T, long time.Duration) {
	t.Helper()
	select {
	case err := <-s.ended:
		t.Fatalf("the WebSocket has ended: %v", err)
	case <-time.After(long):
	}
}

func (s *webSocket) close(t *testing.T) {
	t.Helper()
	if err := s.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
}
