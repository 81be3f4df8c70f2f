package handoff_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/test/wait"
	"openclaw-gateway/worker/handoff"
)

func arrived(address netaddr.Address, held bool) handoff.Report {
	return handoff.Report{Event: handoff.Arrived, Address: address, Held: held}
}

// besides is what a worker reports of an address that the launcher does not hold.
func besides(event handoff.Event, address netaddr.Address) handoff.Report {
	return handoff.Report{Event: event, Address: address}
}

// TestGate: a worker waits at each address on which it wants to listen, held or not, and goes on when it is let go; when the gate has
// been opened it does not ask any more. It tells what it closes besides the sockets.
func TestGate(t *testing.T) {
	t.Parallel()
	held := hold(t, "127.0.0.1")
	_, other := sockets.Server(t, "tcp", "127.0.0.2:0") // whose port is free on the other address
	free := netaddr.MustParse("127.0.0.1:" + strconv.Itoa(int(other.Port())))
	s := script(t, "servers.cjs", held)
	s.gate = handoff.Shut
	w := s.run(t)
	listen := func(id string, at netaddr.Address) {
		w.tell(command{Do: "make", ID: id, Kind: "http"}, command{Do: "listen", ID: id, Args: []any{at.Port(), at.Addr().String()}})
	}
	waiting := dial(t, held[0].Address)
	listen("a", free)
	w.reported(arrived(free, false))
	w.handoff.Pass(free)
	w.says("listening")
	w.reported(besides(handoff.Listening, free))
	listen("b", held[0].Address)
	w.reported(arrived(held[0].Address, true))
	w.handoff.Pass(held[0].Address)
	w.bound("b", held[0])
	w.reported(listening(held[0].Address))
	w.answered("http", waiting)
	w.tell(command{Do: "close", ID: "a"})
	w.says("close")
	w.reported(besides(handoff.Closed, free))
	listen("c", free)
	w.reported(arrived(free, false))
	w.handoff.Release()
	w.says("listening")
	w.reported(besides(handoff.Listening, free))
	w.tell(command{Do: "close", ID: "c"})
	w.says("close")
	w.reported(besides(handoff.Closed, free))
	listen("d", free)
	w.says("listening")
	w.reported(besides(handoff.Listening, free))
	w.answered("http", dial(t, free))
	w.finish()
}

// TestGateSignal: a signal that interrupts the wait does not end it, as SIGUSR1 which starts Node.js' debugger.
func TestGateSignal(t *testing.T) {
	t.Parallel()
	held := hold(t, "127.0.0.1", "127.0.0.2")
	s := script(t, "servers.cjs", held)
	s.gate, s.environ = handoff.Shut, append(s.environ, "NODE_OPTIONS=--inspect-port=0")
	w := s.run(t)
	for i, id := range []string{"a", "b"} {
		at := held[i].Address
		w.tell(command{Do: "make", ID: id, Kind: "http"}, command{Do: "listen", ID: id, Args: []any{at.Port(), at.Addr().String()}})
		w.reported(arrived(at, true))
		asleep := func() (err error) {
			for status := ""; err == nil && !(strings.Contains(status, "State:\tS") && strings.Contains(status, "ShdPnd:\t0000000000000000")); {
				var content []byte
				content, err = os.ReadFile(fmt.Sprintf("/proc/%d/status", w.pid))
				status = string(content)
			}
			return err
		}
		wait.Within(t, bound, "it waits", asleep)
		if err := unix.Kill(w.pid, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		wait.Within(t, bound, "it has taken the signal", asleep)
		w.handoff.Pass(at)
		w.bound(id, held[i])
		w.reported(listening(at))
	}
	w.finish()
}

// TestGateWarm: what listen() and the first request have Node.js load is loaded before the wait. Nobody sees the request that does
// it, and nothing of it is left; whoever traces requests is spared it.
func TestGateWarm(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ kind, tracing, before, after string }{
		{"http", "", `{"requests":1,"traced":[]}`, `{"requests":2,"traced":[]}`},
		{"http", "channel", `{"requests":0,"traced":[]}`, `{"requests":1,"traced":["held"]}`},
		{"http", "method", `{"requests":0,"traced":[]}`, `{"requests":1,"traced":["held"]}`},
		{"net", "", `{"requests":0,"traced":[]}`, `{"requests":0,"traced":[]}`},
	} {
		t.Run(test.kind+" "+test.tracing, func(t *testing.T) {
			t.Parallel()
			held := hold(t, "127.0.0.1")
			at := held[0].Address
			s := script(t, "warm.cjs", held, test.kind, test.tracing, at.Addr().String(), strconv.Itoa(int(at.Port())))
			s.gate = handoff.Shut
			w := s.run(t)
			w.reported(arrived(at, true))
			w.handoff.Release()
			if said := w.says("listening"); said.ID != test.before || said.Code != "true" || said.Failed != "TCPServerWrap" {
				w.fatalf("it said %+v", said)
			}
			w.reported(listening(at))
			w.answered(test.kind, dial(t, at))
			_ = w.stdin.Close()
			if said := w.says("ended"); said.ID != test.after {
				w.fatalf("it said %+v", said)
			}
			w.finish()
		})
	}
}

// TestGateRefused: for a port that cannot be nobody waits: Node.js refuses it at once.
func TestGateRefused(t *testing.T) {
	t.Parallel()
	held := hold(t, "127.0.0.1")
	s := script(t, "servers.cjs", held)
	s.gate = handoff.Shut
	w := s.run(t)
	for _, port := range []int{-1, 1 << 16} {
		id := strconv.Itoa(port)
		w.tell(command{Do: "make", ID: id, Kind: "http"}, command{Do: "listen", ID: id, Args: []any{port, "127.0.0.1"}})
		if said := w.says("thrown"); said.Code != "ERR_SOCKET_BAD_PORT" {
			w.fatalf("it said %+v", said)
		}
	}
	at := held[0].Address
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{at.Port(), at.Addr().String()}})
	w.reported(arrived(at, true)) // the first one that the launcher hears of
	w.handoff.Pass(at)
	w.bound("a", held[0])
	w.reported(listening(at))
	w.finish()
}

// TestGateNamed: by a name, and with the port left to the kernel, for which nobody has to wait.
func TestGateNamed(t *testing.T) {
	t.Parallel()
	held, args := localhost(t)
	s := script(t, "servers.cjs", held)
	s.gate = handoff.Shut
	w := s.run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{0, "127.0.0.1"}})
	w.says("listening")
	if report := <-w.reports; !report.Ephemeral {
		w.fatalf("reported %+v", report)
	}
	w.tell(command{Do: "make", ID: "b", Kind: "http"}, command{Do: "listen", ID: "b", Args: args})
	w.reported(arrived(held[0].Address, true))
	w.handoff.Release()
	w.bound("b", held[0])
	w.reported(listening(held[0].Address))
	w.finish()
}

// TestGateCluster: the primary waits for its workers.
func TestGateCluster(t *testing.T) {
	t.Parallel()
	held := hold(t, "127.0.0.1")
	at := held[0].Address
	s := script(t, "cluster.cjs", held, at.Addr().String(), strconv.Itoa(int(at.Port())))
	s.gate = handoff.Shut
	w := s.run(t)
	waiting := dial(t, at)
	w.reported(arrived(at, true))
	w.handoff.Release()
	w.says("listening")
	w.reported(listening(at))
	w.answered("http", waiting)
}

// TestGateLauncherGone: whoever waits goes on when the launcher has gone, and ends with it.
func TestGateLauncherGone(t *testing.T) {
	t.Parallel()
	held := hold(t, "127.0.0.1")
	s := script(t, "servers.cjs", held)
	s.gate = handoff.Shut
	w := s.run(t)
	w.tell(command{Do: "make", ID: "a", Kind: "http"}, command{Do: "listen", ID: "a", Args: []any{held[0].Address.Port(), "127.0.0.1"}})
	w.reported(arrived(held[0].Address, true))
	if err := w.handoff.Close(); err != nil {
		t.Fatal(err)
	}
	w.bound("a", held[0])
	w.finish()
}

// TestNoGate: what takes the sockets by descriptor is not held.
func TestNoGate(t *testing.T) {
	t.Parallel()
	if _, err := handoff.New(handoff.ListenFDs, handoff.Nothing, handoff.Shut, hold(t, "127.0.0.1"), nil, t.TempDir(), nil); err == nil {
		t.Error("listen-fds has a gate")
	}
}
