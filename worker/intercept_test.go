package worker

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
)

// TestIntercept: a server that binds its address itself serves on the held socket, generation after generation.
func TestIntercept(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "bind"))
	r.spec.Command = append(r.spec.Command, "address="+r.spec.Sockets[0].Address.String())
	r.spec.Handoff = handoff.Intercept
	r.run()
	for generation := 1; generation <= 3; generation++ {
		s := r.await(Ready)
		if s.Generation != generation || s.Handoff != handoff.Intercept {
			t.Errorf("ready: %+v", s)
		}
		answer, err := r.get("/")
		if err != nil || answer != fmt.Sprintf("generation %d, pid %d", generation, s.PID) {
			t.Errorf("generation %d, process %d: answered %q, %v", generation, s.PID, answer, err)
		}
		if generation < 3 {
			if err := r.outcome(r.supervisor.Restart(false)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestInterceptBeside: with auto, too, where it takes nothing away; and who takes the sockets by LISTEN_FDS gets no other ones. Either of
// them has its address for itself.
func TestInterceptBeside(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]handoff.Kind{"bind": handoff.Intercept, "serve": handoff.ListenFDs} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, program))
			r.spec.Command = append(r.spec.Command, "address="+r.spec.Sockets[0].Address.String())
			r.spec.Handoff = handoff.Auto
			r.run()
			for generation := 1; generation <= 2; generation++ {
				// That it has bound may be heard of after it has answered.
				r.awaitThat("ready by "+string(want), func(s Status) bool {
					return s.State == Ready && s.Generation == generation && s.Handoff == want && !s.Deprived
				})
				if answer, err := r.get("/"); err != nil {
					t.Errorf("generation %d: answered %q, %v", generation, answer, err)
				}
				if inUse, err := r.get("/bind/" + r.spec.Sockets[0].Address.String()); inUse != "true" {
					t.Errorf("generation %d: a second bind of the address gets the socket: %v", generation, err)
				}
				if err := r.outcome(r.supervisor.Restart(false)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// asNode is the test's own program by a name that is Node.js's.
func asNode(t *testing.T, name string, options ...string) []string {
	t.Helper()
	command := command(t, name, options...)
	node := filepath.Join(t.TempDir(), "node")
	if err := os.Symlink(command[0], node); err != nil {
		t.Fatal(err)
	}
	return append([]string{node}, command[1:]...)
}

// TestInterceptLater: a Node.js of which something else binds than what the script is loaded in gets the sockets in the next generation,
// whether it ends because of that or stays. One that shows what is wrong, and an OpenClaw, are as they were.
func TestInterceptLater(t *testing.T) {
	t.Parallel()
	for name, stays := range map[string]bool{"it ends": false, "it stays": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.spec.Command = asNode(t, "bind", "address="+r.spec.Sockets[0].Address.String())
			r.spec.Handoff = handoff.Auto
			if stays {
				r.spec.Command = append(r.spec.Command, "stay=1")
				r.spec.ReadyTimeout = time.Second
			}
			r.run()
			for generation := 2; generation <= 3; generation++ { // from then on it is known
				r.awaitThat("ready by intercept", func(s Status) bool {
					return s.State == Ready && s.Generation == generation && s.Handoff == handoff.Intercept && s.Failures == 0
				})
				if answer, err := r.get("/"); err != nil {
					t.Errorf("generation %d: answered %q, %v", generation, answer, err)
				}
				if err := r.outcome(r.supervisor.Restart(false)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for name, options := range map[string][]string{
		"an OpenClaw":                    {"needs=>=20", "code=1"},
		"it has listened elsewhere":      {"elsewhere=127.0.0.1:1", "code=1"},
		"it has asked for what overlaps": {"clash=0.0.0.0:PORT", "code=1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			for i, option := range options {
				options[i] = strings.ReplaceAll(option, "PORT", strconv.Itoa(int(r.spec.Sockets[0].Address.Port())))
			}
			r.spec.Command, r.spec.Handoff = asNode(t, "preload", options...), handoff.Auto
			r.run()
			if s := r.await(BackingOff); s.Generation != 1 || s.Failures != 1 {
				t.Errorf("backing off: %+v", s)
			}
		})
	}
}

// TestInterceptElsewhere: what a server asks for instead of what is held is said.
func TestInterceptElsewhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "bind"))
	port := strconv.Itoa(int(r.spec.Sockets[0].Address.Port()))
	r.spec.Command = append(r.spec.Command, "address=0.0.0.0:"+port)
	r.spec.Handoff, r.spec.ReadyTimeout = handoff.Intercept, time.Hour
	r.run()
	s := r.await(BackingOff)
	// Go asks for both families where it is told 0.0.0.0.
	want := "it wanted to listen on [::]:" + port + ", which overlaps 127.0.0.1:" + port + " that the launcher holds: make the worker listen on 127.0.0.1:" + port + ", or set listen to \"*:" + port + "\""
	if !strings.Contains(s.Problem, want) {
		t.Errorf("the problem is %q, not %q", s.Problem, want)
	}
}

// TestInterceptEachFamily: a server with a socket for each family cannot have the one for both. Which line it needs instead is said of
// each of the two that it may begin with, in each generation.
func TestInterceptEachFamily(t *testing.T) {
	t.Parallel()
	for network, want := range map[string]string{
		"tcp4 0.0.0.0": `it wanted to listen on 0.0.0.0:PORT, which overlaps *:PORT that the launcher holds: make the worker listen on *:PORT, ` +
			`or set listen to 0.0.0.0:PORT, or, if it listens without a host, to ["0.0.0.0:PORT", "[::]:PORT"]`,
		"tcp6 [::]": `it wanted to listen on [::]:PORT, which overlaps *:PORT that the launcher holds: make the worker listen on *:PORT, ` +
			`or set listen to ["0.0.0.0:PORT", "[::]:PORT"]`,
	} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			server, held := sockets.Server(t, "tcp", "[::]:0")
			file, err := server.File()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = file.Close() }) // when the rig has ended
			r.spec.Sockets = []handoff.Socket{{File: file, Address: held, DualStack: true}}
			r.queues.sockets = r.spec.Sockets
			network, host, _ := strings.Cut(network, " ")
			port := strconv.Itoa(int(held.Port()))
			r.spec.Command = asNode(t, "bind", "network="+network, "address="+host+":"+port)
			r.spec.Handoff, r.spec.Backoff.Min = handoff.Auto, time.Millisecond
			r.run()
			for generation := 2; generation <= 4; generation++ { // the first one has shown that it binds
				s := r.await(BackingOff)
				if s.Generation != generation || !strings.Contains(s.Problem, strings.ReplaceAll(want, "PORT", port)) {
					t.Errorf("generation %d: %+v, want %s", generation, s, want)
				}
			}
		})
	}
}

// TestInterceptOneForTwo: a server with one socket for both families does not get two, and is told what to write instead.
func TestInterceptOneForTwo(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "bind"))
	r.spec.Sockets, r.queues.sockets = nil, nil
	for _, held := range sockets.Hold(t, "0.0.0.0", "::") {
		r.spec.Sockets = append(r.spec.Sockets, handoff.Socket{File: held.File, Address: held.Address})
	}
	r.queues.sockets = r.spec.Sockets
	port := strconv.Itoa(int(r.spec.Sockets[0].Address.Port()))
	r.spec.Command = append(r.spec.Command, "address=:"+port)
	r.spec.Handoff, r.options.ClashTimeout = handoff.Intercept, time.Millisecond
	r.run()
	s := r.await(BackingOff)
	want := "it listens with one socket, [::]:" + port + ", for the clients of both families, and those of 0.0.0.0:" + port + " would wait for ever: set listen to \"*:" + port + "\""
	if !strings.Contains(s.Problem, want) {
		t.Errorf("the problem is %q, not %q", s.Problem, want)
	}
}

// TestInterceptNarrow: whose clients are refused that it asks for too is said.
func TestInterceptNarrow(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "bind"))
	held := sockets.Hold(t, "::")[0]
	r.spec.Sockets = []handoff.Socket{{File: held.File, Address: held.Address}}
	r.queues.sockets = r.spec.Sockets
	r.spec.Command = append(r.spec.Command, "address=:"+strconv.Itoa(int(held.Address.Port())))
	r.spec.Handoff = handoff.Intercept
	r.run()
	s := r.await(Ready)
	if want := "the worker asks for IPv4 clients as well, and " + held.Address.String() + " takes IPv6 ones alone"; !strings.Contains(s.Warning, want) {
		t.Errorf("the warning is %q, not %q", s.Warning, want)
	}
}
