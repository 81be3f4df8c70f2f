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

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
)

// preloadRig is a supervisor of a program that reports what it listens on.
func preloadRig(t *testing.T, options ...string) *rig {
	t.Helper()
	r := newRig(t, command(t, "preload", options...))
	r.spec.Handoff = handoff.Preload
	r.spec.Probe = generation.ProbeAuto
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
	r.options.AnswerTimeout = bound // as in TestProbeHTTP
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
	clash := netaddr.From(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
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
	if s.RolledBack != spec.Edition || s.LastExit.Reason != ends.ReasonUnready || s.LastExit.Detail != want {
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
			r.options.ClashTimeout = 100 * time.Millisecond
			clash := netaddr.From(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
			r.spec.Command = command(t, "preload", "clash="+clash.String())
			if listens {
				r.spec.Command = append(r.spec.Command, "listen=1")
				r.spec.Probe, r.spec.ReadyPath = generation.ProbeHTTP, "/never"
			}
			if listens {
				r.options.ClashTimeout = time.Minute
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
				s.LastExit.Reason != ends.ReasonUnready {
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
	clash := netaddr.From(netip.IPv4Unspecified(), r.spec.Sockets[0].Address.Port())
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
	if s.LastExit.Reason != ends.ReasonUnready {
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
			r.options.RelistenTimeout = time.Nanosecond
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
			held := r.held()
			r.queues.absent = held[1:]
			if test.all {
				r.queues.absent = held
			}
			if port := uint16(test.port); port != 0 {
				if port == 1 {
					port = held[0].Port()
				}
				r.spec.Command = append(r.spec.Command, "elsewhere="+netaddr.From(netip.MustParseAddr("127.0.0.2"), port).String())
			}
			if !test.ready {
				r.spec.ReadyTimeout = 300 * time.Millisecond
			}
			r.run()
			if !test.ready {
				if s := r.await(BackingOff); s.LastExit.Reason != ends.ReasonUnready {
					t.Errorf("%+v", s)
				}
				return
			}
			want := r.queues.absent
			if slices.Contains(test.options, "listen=2") {
				want = nil
			}
			r.awaitThat("ready, and said where not", func(s Status) bool {
				var unserved []netaddr.Address
				if s.Unserved != nil {
					unserved = *s.Unserved
				}
				return s.State == Ready && slices.Equal(unserved, want)
			})
		})
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
