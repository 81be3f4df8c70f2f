package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
)

// handoverRig is a supervisor whose next generation starts beside the one that serves. It lists how generations have ended.
type handoverRig struct {
	*rig
	ends chan ends.Exit
}

func newHandoverRig(t *testing.T, kind handoff.Kind, options ...string) *handoverRig {
	t.Helper()
	r := &handoverRig{rig: preloadRig(t), ends: make(chan ends.Exit, 100)}
	r.options.Alone, r.spec.Handover, r.spec.Handoff = true, true, kind
	r.spec.Command = r.program(options...)
	r.options.Ended = func(exit ends.Exit) { r.ends <- exit }
	return r
}

// program is one that takes the sockets in its way.
func (r *handoverRig) program(options ...string) []string {
	r.t.Helper()
	if r.spec.Handoff == handoff.Preload {
		return command(r.t, "preload", append([]string{"listen=1"}, options...)...)
	}
	return command(r.t, "bind", append([]string{"address=" + r.spec.Sockets[0].Address.String()}, options...)...)
}

// served starts it, and returns the first generation.
func (r *handoverRig) served() Status {
	r.t.Helper()
	r.run()
	return r.awaitThat("ready", func(s Status) bool { // that it has bound is heard of a moment after it has answered
		return s.State == Ready && (s.Handoff == handoff.Intercept || r.spec.Handoff != handoff.Auto)
	})
}

// awaitsLeaving starts it, and has a generation that is to be alone wait for the first one, which leaves. It returns where to hear of that.
func (r *handoverRig) awaitsLeaving() (outcome <-chan error, waits Status) {
	r.t.Helper()
	r.served()
	r.want(r.outcome(r.supervisor.Restart(false)))
	spec := r.spec
	spec.Edition, spec.Handover = 2, false
	r.want(r.outcome(r.supervisor.Apply(spec, false)))
	killPID(r.t, r.servedBy(2).PID)
	r.ended(2, ends.ReasonCrash)
	outcome = r.supervisor.Restart(false)
	return outcome, r.awaitThat("it waits", func(s Status) bool { return strings.Contains(s.Problem, "when generation 1 has finished its work") })
}

// ended returns the next end, which has to be that of the generation.
func (r *handoverRig) ended(generation int, reason ends.Reason) ends.Exit {
	r.t.Helper()
	select {
	case exit := <-r.ends:
		if exit.Generation != generation || exit.Reason != reason {
			r.t.Fatalf("generation %d ended (%s), want %d (%s); log:\n%s", exit.Generation, exit.Reason, generation, reason, r.log)
		}
		return exit
	case <-time.After(bound):
		r.t.Fatalf("generation %d has not ended; statuses:\n%s\nlog:\n%s", generation, r.recorder, r.log)
		return ends.Exit{}
	}
}

// beside waits for a successor in that state.
func (r *handoverRig) beside(generation int, state string) Status {
	r.t.Helper()
	return r.awaitThat(state, func(s Status) bool { return s.Successor.Generation == generation && s.Successor.State == state })
}

func (r *handoverRig) servedBy(generation int) Status {
	r.t.Helper()
	return r.awaitThat("served by the next one", func(s Status) bool { return s.State == Ready && s.Generation == generation })
}

// only wants these states, from the first ready one on.
func (r *handoverRig) only(states ...State) {
	r.t.Helper()
	seen := r.states()
	for len(seen) > 0 && seen[0] != Ready {
		seen = seen[1:]
	}
	if len(seen) != len(states) {
		r.t.Fatalf("states %v, want %v", seen, states)
	}
	for i := range seen {
		if seen[i] != states[i] {
			r.t.Fatalf("states %v, want %v", seen, states)
		}
	}
}

func killPID(t *testing.T, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

const deafToStop = "deaf=1"

// TestHandover: every crossing of two generations, with real processes in a control group.
func TestHandover(t *testing.T) {
	// With auto, too, when the one that serves has shown that it binds its address; its successor is passed no sockets.
	everyCrossing(t, crossings, "the old one drains")
}

// everyCrossing runs each of them by the handoffs that have a gate, and one with auto, and looks that no control group is left.
func everyCrossing(t *testing.T, crossings func(path string, kind handoff.Kind) map[string]func(*testing.T), auto string) {
	path, ok := inScratch(t, func(string) {})
	if !ok {
		return
	}
	for _, kind := range []handoff.Kind{handoff.Preload, handoff.Intercept} {
		for name, crossing := range crossings(path, kind) {
			t.Run(string(kind)+"/"+name, crossing)
			if left := groups(t, path); len(left) > 1 {
				t.Errorf("%s, %s: left are %v", kind, name, left)
			}
		}
	}
	t.Run("auto", crossings(path, handoff.Auto)[auto])
}

func crossings(path string, kind handoff.Kind) map[string]func(t *testing.T) {
	all := map[string]func(t *testing.T){
		"the old one drains": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			r.served()
			outcome := r.supervisor.Restart(false)
			r.want(r.outcome(outcome))
			r.only(Ready, Starting, Ready)
			now := r.servedBy(2)
			// Those who have waited are answered before anything follows of its being ready.
			if now.Stall == 0 || now.Leaving.Stall != 0 || now.Leaving.Generation != 1 || now.GateAfter == 0 || now.ReleasedAfter < now.GateAfter || now.ReadyAfter < now.ReleasedAfter+10*time.Millisecond {
				t.Errorf("beside the one that leaves: %+v", now)
			}
			r.wantAnswer("/", "generation 2,")
			// There are no three.
			third := r.supervisor.Restart(false)
			open(t, drain)
			if exit := r.ended(1, ends.ReasonRestart); exit.Code != 0 {
				t.Errorf("the old one ended: %+v", exit)
			}
			r.beside(3, BesideBooting)
			r.want(r.outcome(third))
			r.wantAnswer("/", "generation 3,")
			open(t, drain)
			r.ended(2, ends.ReasonRestart)
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"the old one never closes": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			r.spec.StopTimeout = time.Second
			r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			if exit := r.ended(1, ends.ReasonRestart); exit.Signal != syscall.SIGKILL {
				t.Errorf("the old one ended: %+v", exit)
			}
			r.wantAnswer("/", "generation 2,")
			r.only(Ready, Starting, Ready)
		},
		"now": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			r.served()
			r.want(r.outcome(r.supervisor.Restart(true)))
			r.ended(1, ends.ReasonRestart)
		},
		"it ends before it listens": func(t *testing.T) {
			r := newHandoverRig(t, kind, "beside=7")
			r.served()
			r.want(r.outcome(r.supervisor.Restart(false)), "generation 2 ended before it listened, while generation 1 was running: exit code 7",
				"it may be alone only; restart.mode: exclusive", "generation 1 goes on serving")
			if exit := r.ended(2, ends.ReasonCrash); !exit.Successor {
				t.Errorf("the next one ended: %+v", exit)
			}
			spec := r.spec
			spec.Edition, spec.Command = 2, command(t, "exit", "code=3")
			r.want(r.outcome(r.supervisor.Apply(spec, true)), "exit code 3", "the last configuration that worked")
			r.wantAnswer("/", "generation 1,")
			r.only(Ready)
			if all := r.all(); all[len(all)-1].Restarts != 0 {
				t.Errorf("nobody has been restarted: %+v", all[len(all)-1])
			}
		},
		"it hangs": func(t *testing.T) {
			r := newHandoverRig(t, kind, "boot="+fifo(t))
			r.served()
			outcome := r.supervisor.Restart(false)
			r.beside(2, BesideBooting)
			r.letTimePass(2)
			r.want(r.outcome(outcome), "it has not come to listen on", "generation 1 goes on serving")
			r.ended(2, ends.ReasonUnready)
			r.only(Ready)
		},
		"it is killed while it boots": func(t *testing.T) {
			r := newHandoverRig(t, kind, "boot="+fifo(t))
			r.served()
			outcome := r.supervisor.Restart(false)
			killPID(t, r.beside(2, BesideBooting).Successor.PID)
			err := r.outcome(outcome)
			r.want(err, "killed by SIGKILL", "generation 1 goes on serving")
			if err != nil && strings.Contains(err.Error(), "alone only") {
				t.Errorf("it has not ended by itself: %v", err)
			}
			r.only(Ready)
		},
		"it is killed while it is parked": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			first := r.served()
			outcome := r.supervisor.Restart(false)
			killPID(t, r.beside(2, BesideParked).Successor.PID)
			r.ended(2, ends.ReasonCrash)
			killPID(t, first.PID)
			r.ended(1, ends.ReasonRestart)
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 3,")
		},
		"it is killed when it has got the sockets": func(t *testing.T) {
			r := newHandoverRig(t, kind, "drain="+fifo(t))
			r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			killPID(t, r.servedBy(2).PID)
			r.ended(2, ends.ReasonCrash)
			if s := r.await(BackingOff); s.Leaving.Generation != 1 {
				t.Errorf("after the crash: %+v", s)
			}
			r.want(r.outcome(r.supervisor.Restart(false))) // two they are again
			r.wantAnswer("/", "generation 3,")
			r.stop()
			r.hurry <- struct{}{}
			r.awaitEnd()
		},
		"one that is to be alone, while one leaves": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			outcome, s := r.awaitsLeaving()
			if s.State != BackingOff || s.Leaving.Generation != 1 || !s.NextStart.IsZero() {
				t.Errorf("while one leaves: %+v", s)
			}
			if err := r.supervisor.Hold(t.Context(), false, nil); err == nil || !strings.Contains(err.Error(), "finished its work") {
				t.Errorf("an upgrade is told: %v", err)
			}
			open(t, drain)
			r.ended(1, ends.ReasonRestart)
			if s := r.awaitThat("the next one starts", func(s Status) bool { return s.Generation == 3 }); strings.Contains(s.Problem, "finished its work") {
				t.Errorf("it waits for one that has gone: %q", s.Problem)
			}
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 3,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"one that was to be alone, and need not be": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			outcome, _ := r.awaitsLeaving()
			spec := r.spec
			spec.Edition, spec.Handover = 3, true
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.want(r.outcome(outcome))
			if s := r.servedBy(3); s.Leaving.Generation != 1 {
				t.Errorf("it has waited: %+v", s)
			}
			open(t, drain)
			r.ended(1, ends.ReasonRestart)
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"the old one is killed while it boots": func(t *testing.T) {
			boot := fifo(t)
			r := newHandoverRig(t, kind, "boot="+boot)
			first := r.served()
			outcome := r.supervisor.Restart(false)
			r.beside(2, BesideBooting)
			killPID(t, first.PID)
			r.ended(1, ends.ReasonCrash)
			r.awaitThat("the successor starts", func(s Status) bool { return s.State == Starting && s.Generation == 2 })
			open(t, boot)
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 2,")
		},
		"the old one is killed while it is parked": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			first := r.served()
			outcome := r.supervisor.Restart(false)
			r.beside(2, BesideParked)
			killPID(t, first.PID)
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 2,")
		},
		"the old one is killed while it leaves": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			first := r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			killPID(t, first.PID)
			if exit := r.ended(1, ends.ReasonRestart); exit.Signal != syscall.SIGKILL {
				t.Errorf("the old one ended: %+v", exit)
			}
			r.wantAnswer("/", "generation 2,")
			r.only(Ready, Starting, Ready)
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"an edit before it is ready": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			first := r.unready()
			spec := r.spec
			spec.Edition = 3
			second := r.supervisor.Apply(spec, true)
			r.ended(2, ends.ReasonConfig)
			r.want(r.outcome(first))
			r.want(r.outcome(second))
			if now := r.servedBy(3); now.Leaving.Generation != 1 {
				t.Errorf("beside the one that leaves: %+v", now)
			}
			open(t, drain)
			r.ended(1, ends.ReasonConfig)
			r.wantAnswer("/", "generation 3,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"an edit that fails when it has got the sockets": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			outcome := r.unready()
			r.letTimePass(2)
			r.want(r.outcome(outcome), "the last configuration that worked comes back")
			r.ended(2, ends.ReasonUnready)
			if now := r.servedBy(3); now.Leaving.Generation != 1 || now.RolledBack != 2 {
				t.Errorf("beside the one that leaves: %+v", now)
			}
			open(t, drain)
			r.ended(1, ends.ReasonConfig)
			r.wantAnswer("/", "generation 3,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"asked again while it boots": func(t *testing.T) {
			boot := fifo(t)
			r := newHandoverRig(t, kind, "boot="+boot)
			r.served()
			first := r.supervisor.Restart(false)
			r.beside(2, BesideBooting)
			spec := r.spec
			spec.Edition, spec.Command = 2, r.program()
			second := r.supervisor.Apply(spec, true)
			r.ended(2, ends.ReasonConfig)
			r.want(r.outcome(first))
			r.want(r.outcome(second))
			r.ended(1, ends.ReasonConfig)
			r.wantAnswer("/", "generation 3,")
		},
		"asked again while it is parked": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			first := r.served()
			one := r.supervisor.Restart(false)
			r.beside(2, BesideParked)
			two := r.supervisor.Restart(false)
			spec := r.spec
			spec.Edition, spec.Command = 2, r.program()
			three := r.supervisor.Apply(spec, true)
			r.ended(2, ends.ReasonConfig)
			r.beside(3, BesideParked)
			killPID(t, first.PID)
			for _, outcome := range []<-chan error{one, two, three} {
				r.want(r.outcome(outcome))
			}
			r.wantAnswer("/", "generation 3,")
		},
		"now, by one that cannot be held": func(t *testing.T) {
			r := newHandoverRig(t, kind, "boot="+fifo(t), deafToStop)
			r.served()
			r.supervisor.Restart(false)
			r.beside(2, BesideBooting)
			spec := r.spec
			spec.Edition, spec.Command, spec.Handoff = 2, command(t, "serve"), handoff.ListenFDs
			outcome := r.supervisor.ask(request{spec: &spec, restart: true, now: true})
			r.ended(2, ends.ReasonConfig)
			if exit := r.ended(1, ends.ReasonConfig); exit.Signal != syscall.SIGKILL {
				t.Errorf("the old one ended: %+v", exit)
			}
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 3,")
		},
		"the launcher ends while it boots": func(t *testing.T) {
			r := newHandoverRig(t, kind, "boot="+fifo(t))
			first := r.served()
			outcome := r.supervisor.Restart(false)
			next := r.beside(2, BesideBooting).Successor
			r.stop()
			r.awaitEnd()
			r.want(r.outcome(outcome), ErrStopping.Error())
			r.dead(first.PID, next.PID)
		},
		"the launcher ends while it is parked": func(t *testing.T) {
			r := newHandoverRig(t, kind, deafToStop)
			first := r.served()
			r.supervisor.Restart(false)
			next := r.beside(2, BesideParked).Successor
			r.stop()
			r.ended(2, ends.ReasonStop)
			if !alive(first.PID) {
				t.Error("the old one has its own time")
			}
			r.hurry <- struct{}{}
			r.awaitEnd()
			r.dead(first.PID, next.PID)
		},
		"the launcher ends while one leaves": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain)
			first := r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			now := r.servedBy(2)
			r.stop()
			go func() { _ = os.WriteFile(drain, nil, 0) }()
			r.hurry <- struct{}{}
			r.awaitEnd()
			r.dead(first.PID, now.PID)
		},
		"a second port": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain, "elsewhere="+sockets.Free(t).String())
			r.served()
			outcome := r.supervisor.Restart(false)
			r.beside(2, BesideParked)
			// It lets go of the sockets, and not yet of the other port: meanwhile nobody serves.
			r.awaitThat("nobody has the sockets", func(s Status) bool {
				return s.State == Stopping && s.Successor.State == BesideParked && !s.Until.IsZero()
			})
			open(t, drain)
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 2,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"a second port of one that leaves": func(t *testing.T) {
			drain := fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain, "elsewhere="+sockets.Free(t).String(), "late=1")
			r.served()
			r.want(r.outcome(r.supervisor.Restart(false)))
			killPID(t, r.servedBy(2).PID)
			r.ended(2, ends.ReasonCrash)
			r.await(BackingOff)
			outcome := r.supervisor.Restart(false)
			r.awaitLog(`"worker waits at the gate" generation=3`) // for the other port, which generation 1 has
			open(t, drain)
			r.ended(1, ends.ReasonRestart)
			r.want(r.outcome(outcome))
			r.wantAnswer("/", "generation 3,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
		"another one listens": func(t *testing.T) {
			r := newHandoverRig(t, kind, "listen=0", "notify=self")
			if s := r.served(); !strings.Contains(s.Apart, "is not what listens") {
				t.Errorf("ready: %+v", s)
			}
			r.want(r.outcome(r.supervisor.Restart(false)))
			r.only(Ready, Stopping, Starting, Ready)
		},
		"a stray that has left its control group": func(t *testing.T) {
			told, drain := fifo(t), fifo(t)
			r := newHandoverRig(t, kind, "drain="+drain, "leave="+told, "mib=1")
			go func() { r.run() }()
			stray, err := strconv.Atoi(hear(t, told))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(path, "launcher", "cgroup.procs"), []byte(strconv.Itoa(stray)), 0); err != nil {
				t.Fatal(err)
			}
			r.await(Ready)
			outcome := r.supervisor.Restart(false)
			hear(t, told)
			r.want(r.outcome(outcome))
			open(t, drain)
			if exit := r.ended(1, ends.ReasonRestart); len(exit.Strays) != 1 || exit.Strays[0].PID != stray {
				t.Errorf("the strays of the old one: %v, want %d", exit.Strays, stray)
			}
			r.wantAnswer("/", "generation 2,")
			go func() { _ = os.WriteFile(drain, nil, 0) }()
		},
	}
	if kind != handoff.Preload {
		delete(all, "another one listens") // with intercept all that belongs to the worker is held
	}
	return all
}

// unready serves, and has an edit lead to a generation that has got the sockets and does not become ready.
func (r *handoverRig) unready() (outcome <-chan error) {
	r.t.Helper()
	r.spec.Probe, r.spec.ReadyPath = generation.ProbeHTTP, "/ready"
	r.served()
	spec := r.spec
	spec.Edition, spec.Command = 2, r.program("unready=1000000")
	outcome = r.supervisor.Apply(spec, true)
	r.awaitThat("it has the sockets", func(s Status) bool {
		return s.State == Starting && s.Generation == 2 && s.Leaving.Generation == 1
	})
	return outcome
}

func (r *handoverRig) dead(pids ...int) {
	r.t.Helper()
	for _, pid := range pids {
		if alive(pid) {
			r.t.Errorf("process %d is alive", pid)
		}
	}
}

// TestThrownAwayTooLate: the serving generation ends while its successor is being thrown away. The next one starts when that has
// gone too.
func TestThrownAwayTooLate(t *testing.T) {
	t.Parallel()
	r := newHandoverRig(t, handoff.Preload)
	r.options.Place = func() (string, error) { return "", errors.New("no place") }
	s := New(r.spec, r.options)
	s.resetBackoff()
	s.phase, s.number = running, 2
	s.serving, s.coming = generation.New(1, r.spec, s.around, s.handle), generation.New(2, r.spec, s.around, s.handle)
	s.coming.Beside(s.serving)
	s.serving.Stage, s.coming.Stage = generation.Ready, generation.Stopping
	s.handle(generation.Event{Kind: generation.Ended, Exit: ends.Exit{Generation: 1, Reason: ends.ReasonCrash}})
	if s.phase != running || s.number != 2 || s.present() != s.coming {
		t.Fatalf("when the one that served has ended: phase %d, generation %d", s.phase, s.number)
	}
	s.handle(generation.Event{Kind: generation.Ended, Exit: ends.Exit{Generation: 2, Reason: ends.ReasonRestart}})
	if s.phase != backingOff || s.number != 3 || len(s.living()) != 0 {
		t.Errorf("when both have ended: phase %d, generation %d", s.phase, s.number)
	}
}

// pair is a supervisor whose serving generation is being stopped for the successor that it has, and listens on its socket.
func (r *handoverRig) pair() *Supervisor {
	r.t.Helper()
	s := New(r.spec, r.options)
	s.phase, s.number = running, 2
	s.serving, s.coming = generation.New(1, r.spec, s.around, s.handle), generation.New(2, r.spec, s.around, s.handle)
	s.coming.Beside(s.serving)
	given, err := handoff.New(handoff.Preload, handoff.Nothing, handoff.Open, r.spec.Sockets, nil, r.t.TempDir(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = given.Close() })
	s.serving.Handoff, s.serving.Why, s.serving.Stage, s.coming.Stage = given, ends.ReasonConfig, generation.Stopping, generation.Parked
	s.serving.Listening[r.spec.Sockets[0].Address] = true
	return s
}

// TestThrownAwayMeanwhile: one that is being thrown away does not get the sockets of which the serving generation lets go.
func TestThrownAwayMeanwhile(t *testing.T) {
	t.Parallel()
	s := newHandoverRig(t, handoff.Preload).pair()
	elder := s.serving
	s.coming.Stage, s.anew = generation.Stopping, ends.ReasonConfig
	clear(elder.Listening)
	s.handle(generation.Event{Kind: generation.LetGo})
	if s.serving != elder || s.leaving != nil || !s.awaited() {
		t.Errorf("serving %p, leaving %p, coming %+v; want %p to be there until another one comes", s.serving, s.leaving, s.coming, elder)
	}
}

// TestStateMeanwhile: who has the sockets serves, until it has let go of them, whatever its successor does.
func TestStateMeanwhile(t *testing.T) {
	t.Parallel()
	s := newHandoverRig(t, handoff.Preload).pair()
	for _, stage := range []generation.Stage{generation.Parked, generation.Starting, generation.Stopping} {
		if s.coming.Stage = stage; s.state() != Ready {
			t.Errorf("with a successor in stage %d it is %s", stage, s.state())
		}
	}
	clear(s.serving.Listening)
	if s.state() != Stopping {
		t.Errorf("when it has let go of the sockets it is %s", s.state())
	}
}

// TestHungMeanwhile: who hangs, and is stopped for its successor, hangs until it has let go of the sockets.
func TestHungMeanwhile(t *testing.T) {
	t.Parallel()
	r := newHandoverRig(t, handoff.Preload)
	var seen Status
	r.options.Observe = func(s Status) { seen = s }
	s := r.pair()
	elder := s.serving
	elder.Process, s.coming.Process, elder.Hung = new(os.Process), new(os.Process), []*signs.Hung{{By: signs.ByQueue}}
	if s.observe(); seen.State != Ready || seen.Hung == nil {
		t.Errorf("the status is %s, and hung is %v", seen.State, seen.Hung)
	}
}

// TestHandoverApart: without a control group, or a gate, a restart is exclusive, and the status says why.
func TestHandoverApart(t *testing.T) {
	t.Parallel()
	r := newHandoverRig(t, handoff.Preload)
	r.options.Alone = false
	if s := r.served(); !strings.Contains(s.Apart, "control group") {
		t.Errorf("ready: %+v", s)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.only(Ready, Stopping, Starting, Ready)
}
