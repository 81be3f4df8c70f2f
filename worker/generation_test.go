package worker

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/tree"
)

// preloadRig is a supervisor of a program that reports what it listens on.
func preloadRig(t *testing.T, options ...string) *rig {
	t.Helper()
	r := newRig(t, command(t, "preload", options...))
	r.spec.Handoff = handoff.Preload
	r.spec.Probe = ProbeAuto
	return r
}

func TestReports(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := preloadRig(t, "listen=2", "elsewhere=127.0.0.1:9", "gate="+gate)
	r.spec.Sockets = append(r.spec.Sockets, listen(t, "::1"))
	r.run()
	s := r.await(Ready)
	if s.Handoff != handoff.Preload || s.Problem != "" {
		t.Errorf("ready: %+v", s)
	}
	open(t, gate)
	r.wantAnswer("/", "generation 1,")
}

// TestReportsThenHTTP: the path is asked only when the sockets are adopted.
func TestReportsThenHTTP(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := preloadRig(t, "listen=0", "gate="+gate)
	r.spec.ReadyPath = "/ready"
	r.run()
	r.await(Starting)
	open(t, gate)
	if n := queued(t, r.spec.Sockets[0]); n != 0 {
		t.Errorf("%d connections are in the queue of a worker that does not listen", n)
	}
	spec := r.spec
	spec.Command = command(t, "preload", "listen=1", "unready=1")
	r.want(r.outcome(r.supervisor.Apply(spec, true)))
	if log := r.log.String(); strings.Count(log, "was answered with 503") != 1 {
		t.Error("one request was answered with 503")
	}
}

func TestReportsOfElsewhere(t *testing.T) {
	t.Parallel()
	r := preloadRig(t, "listen=0", "elsewhere=127.0.0.1:9")
	r.run()
	held := r.spec.Sockets[0].Address
	want := fmt.Sprintf("it listens on 127.0.0.1:9, not on %s: set its port in worker.command, or set listen to 127.0.0.1:9", held)
	s := r.awaitThat("explained", func(s Status) bool { return s.Problem != "" })
	if s.State != Starting || s.Problem != want {
		t.Errorf("%+v, want the problem %q", s, want)
	}
	// What was wrong with it is not wrong with the next one.
	spec := r.spec
	spec.Command = command(t, "preload", "listen=1")
	r.want(r.outcome(r.supervisor.Apply(spec, true)))
	for _, s := range r.all() {
		if s.Generation == 2 && s.Problem != "" {
			t.Errorf("problem of generation 2: %q", s.Problem)
		}
	}
}

func TestReportsBeforeTheEnd(t *testing.T) {
	t.Parallel()
	r := preloadRig(t)
	clash := netip.AddrPortFrom(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
	r.spec.Command = command(t, "preload", "clash="+clash.String(), "code=1")
	r.run()
	want := fmt.Sprintf("generation 1 ended: exit code 1: it wanted to listen on %s, which overlaps %s", clash, r.spec.Sockets[0].Address)
	if s := r.await(BackingOff); !strings.HasPrefix(s.Problem, want) {
		t.Errorf("problem %q, want %q", s.Problem, want)
	}
}

// TestRuntimeTooOld: what the worker's runtime cannot do is not waited for, and the last spec that worked comes back.
func TestRuntimeTooOld(t *testing.T) {
	t.Parallel()
	r := preloadRig(t, "listen=1", "needs=>=20")
	r.run()
	r.await(Ready)
	spec := r.spec
	spec.Edition++
	spec.Command = command(t, "preload", "needs=>=24.16.0")
	err := r.outcome(r.supervisor.Apply(spec, true))
	const want = "/usr/bin/node is Node.js 20.20.2, and OpenClaw 2026.9.6 needs >=24.16.0: name such a one in worker.command"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the outcome is %v, want %q", err, want)
	}
	s := r.awaitThat("ready again", func(s Status) bool { return s.State == Ready && s.Generation == 3 })
	if s.RolledBack != spec.Edition || s.LastExit.Reason != ReasonUnready || s.LastExit.Detail != want {
		t.Errorf("%+v after %+v", s, s.LastExit)
	}
}

// TestClash: nothing comes of a worker that wants an address which clashes with a held one, so nobody waits for it until
// ready.timeout; one that listens where it should after all has its time.
func TestClash(t *testing.T) {
	t.Parallel()
	for name, listens := range map[string]bool{"stuck": false, "finds its way": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := preloadRig(t)
			r.options.clashTimeout = 100 * time.Millisecond
			clash := netip.AddrPortFrom(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
			r.spec.Command = command(t, "preload", "clash="+clash.String())
			if listens {
				r.spec.Command = append(r.spec.Command, "listen=1")
				r.spec.Probe, r.spec.ReadyPath = ProbeHTTP, "/never"
			}
			if listens {
				r.options.clashTimeout = time.Minute
			}
			r.run()
			if listens {
				within := func(least, most time.Duration) func(Status) bool {
					return func(s Status) bool {
						left := time.Until(s.Until)
						return s.State == Starting && left > least && left <= most
					}
				}
				r.awaitThat("starting for a minute at the most", within(0, time.Minute))
				r.awaitThat("starting with all of its time", within(time.Minute, time.Hour))
				return
			}
			s := r.await(BackingOff)
			if !strings.Contains(s.Problem, "it wanted to listen on "+clash.String()) || strings.Contains(s.Problem, "ready.timeout") ||
				s.LastExit.Reason != ReasonUnready {
				t.Errorf("problem %q after %+v", s.Problem, s.LastExit)
			}
		})
	}
}

// TestClashOfReady: a generation that served does not end for an address that
// it could do without.
func TestClashOfReady(t *testing.T) {
	t.Parallel()
	r := preloadRig(t)
	clash := netip.AddrPortFrom(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
	r.spec.Command = command(t, "preload", "clash="+clash.String(), "listen=1")
	r.run()
	r.await(Ready)
	r.exit(3)
	if s := r.await(BackingOff); !strings.HasPrefix(s.Problem, "generation 1 ended: exit code 3") {
		t.Errorf("problem %q", s.Problem)
	}
}

func TestExhausted(t *testing.T) {
	t.Parallel()
	r := preloadRig(t, "listen=1")
	held := r.spec.Sockets[0].Address.String()
	r.spec.Command = append(r.spec.Command, "exhausted="+held)
	r.run()
	s := r.await(BackingOff)
	if want := "generation 1: the worker has listened on " + held + " so often"; !strings.HasPrefix(s.Problem, want) {
		t.Errorf("problem %q, want %q", s.Problem, want)
	}
	if s.LastExit.Reason != ReasonUnready {
		t.Errorf("end of the generation: %+v", s.LastExit)
	}
}

// TestNonsenseReports: whatever stands in the pipe, a worker that listens serves.
func TestNonsenseReports(t *testing.T) {
	t.Parallel()
	for _, said := range []string{
		"nonsense", "\x01\xff", strings.Repeat("x", 100_000), `{"event":"failed","address":"[::1]:undefined","held":false,"code":"EADDRNOTAVAIL"}`,
		`{"event":"closed","address":"127.0.0.1:9","held":true}`, `{"event":"closed","address":"","held":true}`,
		`{"event":"exhausted","address":"127.0.0.1:9","held":true}`, `{"event":"listening","address":"127.0.0.1:9","held":true}`,
		`{"event":"failed","address":"127.0.0.1:9","code":"EADDRINUSE"}`, `{"event":"other"}`, "null", "{}", "",
	} {
		t.Run(said[:min(len(said), 20)], func(t *testing.T) {
			t.Parallel()
			r := preloadRig(t, "listen=1", "say="+said)
			r.options.relistenTimeout = time.Nanosecond
			r.run()
			r.await(Ready)
			r.wantAnswer("/", "")
			if s := r.all(); s[len(s)-1].State != Ready {
				t.Errorf("%+v", s[len(s)-1])
			}
		})
	}
}

// TestAbsent: an address that this machine does not have keeps no worker from being ready that serves where it can.
func TestAbsent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options []string
		port    int // on 127.0.0.2, by itself; as the held one if 1
		all     bool
		ready   bool
	}{
		"one of two":                   {[]string{"listen=1"}, 0, false, true},
		"none of two":                  {[]string{"listen=0"}, 0, false, false},
		"both are, it falls back":      {[]string{"listen=0"}, 1, true, true},
		"both are, it is another port": {[]string{"listen=0"}, 9, true, false},
		"both are, it listens there":   {[]string{"listen=2"}, 0, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := preloadRig(t, test.options...)
			r.spec.Sockets = append(r.spec.Sockets, listen(t, "::1"))
			held := addresses(r.spec.Sockets)
			r.queues.absent = held[1:]
			if test.all {
				r.queues.absent = held
			}
			if port := uint16(test.port); port != 0 {
				if port == 1 {
					port = held[0].Port()
				}
				r.spec.Command = append(r.spec.Command, "elsewhere="+netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port).String())
			}
			if !test.ready {
				r.spec.ReadyTimeout = 300 * time.Millisecond
			}
			r.run()
			if !test.ready {
				if s := r.await(BackingOff); s.LastExit.Reason != ReasonUnready {
					t.Errorf("%+v", s)
				}
				return
			}
			want := r.queues.absent
			if slices.Contains(test.options, "listen=2") {
				want = nil
			}
			r.awaitThat("ready, and said where not", func(s Status) bool {
				var unserved []netip.AddrPort
				if s.Unserved != nil {
					unserved = *s.Unserved
				}
				return s.State == Ready && slices.Equal(unserved, want)
			})
		})
	}
}

// reporting is a handoff that tells what the worker listens on.
type reporting struct{ handoff.Handoff }

func (reporting) Reports() *handoff.Reports { return new(handoff.Reports) }

func (reporting) Kind() handoff.Kind { return handoff.Preload }

func TestExplain(t *testing.T) {
	t.Parallel()
	v4, v6 := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("[::1]:80")
	sockets := []handoff.Socket{{Address: v4}, {Address: v6}}
	other := netip.MustParseAddrPort("127.0.0.1:81")
	for name, test := range map[string]struct {
		generation generation
		listens    []netip.AddrPort
		want       string
	}{
		"one of two": {
			generation{handoff: reporting{}, listening: map[netip.AddrPort]bool{v4: true}},
			nil,
			"it listens on 127.0.0.1:80 only: make it listen on [::1]:80 too, or take that out of listen",
		},
		"one of two, and another port": {
			generation{handoff: reporting{}, listening: map[netip.AddrPort]bool{v4: true}},
			[]netip.AddrPort{other},
			"it listens on 127.0.0.1:80 only: make it listen on [::1]:80 too, or take that out of listen",
		},
		"none": {generation{handoff: reporting{}}, nil, "it has not listened on 127.0.0.1:80 and [::1]:80"},
		"another port of all addresses": {
			generation{handoff: reporting{}, elsewhere: []netip.AddrPort{netip.MustParseAddrPort("[::]:81"), netip.MustParseAddrPort("0.0.0.0:82")}},
			nil,
			`it listens on [::]:81 and 0.0.0.0:82, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to "*:81" and 0.0.0.0:82`,
		},
		"a clash with all addresses": {
			generation{handoff: reporting{}, clash: netip.MustParseAddrPort("[::]:80")},
			nil,
			`it wanted to listen on [::]:80, which overlaps 127.0.0.1:80 and [::1]:80 that the launcher holds: ` +
				`make the worker listen on 127.0.0.1:80 and [::1]:80, or set listen to "*:80"`,
		},
		"another port, told twice": {
			generation{handoff: reporting{}, elsewhere: []netip.AddrPort{other}},
			[]netip.AddrPort{other},
			"it listens on 127.0.0.1:81, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to 127.0.0.1:81",
		},
		"all, and the probe": {
			generation{handoff: reporting{}, listening: map[netip.AddrPort]bool{v4: true, v6: true}, probed: "GET / was answered with 500"},
			nil,
			"GET / was answered with 500",
		},
		"all, and no READY=1": {
			generation{handoff: reporting{}, listening: map[netip.AddrPort]bool{v4: true, v6: true}, spec: Spec{Probe: ProbeNotify}},
			nil,
			"it has not said READY=1 to its NOTIFY_SOCKET, as ready.probe asks of it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := test.generation
			g.spec.Sockets = sockets
			if got := g.explain(test.listens); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
		})
	}
}

func TestClashes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		held, wanted string
		want         bool
	}{
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"127.0.0.1:80", "[::]:80", true},
		{"0.0.0.0:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:80", false},
		{"127.0.0.1:80", "[::1]:80", false},
		{"127.0.0.1:80", "192.0.2.1:80", false},
		{"127.0.0.1:80", "0.0.0.0:81", false},
		{"[::]:80", "0.0.0.0:80", true},
	} {
		g := generation{spec: Spec{Sockets: []handoff.Socket{{Address: netip.MustParseAddrPort(test.held)}}}}
		if got := g.clashes(netip.MustParseAddrPort(test.wanted)); got != test.want {
			t.Errorf("%s held, %s wanted: %t", test.held, test.wanted, got)
		}
	}
}

// TestCannotExecute: whether the shim or the launcher tries to execute the worker, the reason is the same.
func TestCannotExecute(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nameless")
	if err := os.WriteFile(path, []byte("echo hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []handoff.Kind{handoff.ListenFDs, handoff.Preload} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{path})
			r.spec.Handoff = kind
			r.run()
			want := "execute " + path + ": exec format error: a script needs a first line such as #!/bin/sh"
			if s := r.await(BackingOff); !strings.Contains(s.LastExit.Detail, want) || !strings.Contains(s.Problem, want) {
				t.Errorf("%+v, want %q", s, want)
			}
		})
	}
}

// TestKilledForMemory: that the kernel has no memory for a worker is told from a kill by somebody. The count of the kernel is
// prepared: the one of the test may have no memory controller.
func TestKilledForMemory(t *testing.T) {
	t.Parallel()
	for kills, want := range map[int]Reason{0: ReasonCrash, 1: ReasonOOM} {
		var exit Exit
		g := newGeneration(1, Spec{Command: []string{"x"}}, surroundings{}, func(e event) { exit = e.exit })
		g.handoff, g.tree = quiet{}, &tree.Tree{OOMKills: kills}
		g.enter(ready, 0)
		g.end(event{exit: Exit{Code: -1, Signal: unix.SIGKILL}})
		if exit.Reason != want || strings.Contains(exit.Detail, "want of memory") != (want == ReasonOOM) {
			t.Errorf("%d kills: %s, %q", kills, exit.Reason, exit.Detail)
		}
	}
}

type quiet struct{ handoff.Handoff }

func (quiet) Kind() handoff.Kind { return handoff.ListenFDs }
