package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/tree"
)

func TestFirstClient(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.AtOnce = false
	r.run()
	if s := r.await(Waiting); s.PID != 0 || s.Generation != 0 || s.Restarts != 0 {
		t.Errorf("waiting: %+v", s)
	}
	r.wantAnswer("/", "generation 1,")
	s := r.await(Ready)
	if s.Generation != 1 || s.PID == 0 || s.Handoff != handoff.ListenFDs || s.ReadyAfter <= 0 || s.Problem != "" || s.LastExit != nil {
		t.Errorf("ready: %+v", s)
	}
	r.wantAnswer("/", fmt.Sprintf("pid %d", s.PID))
	if diff := cmp.Diff([]State{Waiting, Starting, Ready}, r.states()); diff != "" {
		t.Error(diff)
	}
	if restored, listens := r.queues.counts(); restored != 1 || listens != 1 {
		t.Errorf("sockets restored %d times, given their backlog %d times; want each once", restored, listens)
	}
}

func TestAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	r.await(Ready)
	if diff := cmp.Diff([]State{Starting, Ready}, r.states()); diff != "" {
		t.Error(diff)
	}
}

func TestAwaitClientFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.AtOnce = false
	r.queues.failAwait = errors.New("no poll")
	r.run()
	r.await(Ready)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.Known = 40 // by an earlier launcher
	ended := make(chan ends.Exit, 1)
	r.options.Ended = func(exit ends.Exit) { ended <- exit }
	r.run()
	first := r.await(Ready)
	if first.Started.IsZero() || !first.Started.Add(first.ReadyAfter).Equal(first.Since) {
		t.Errorf("started at %s, ready after %s, since %s", first.Started, first.ReadyAfter, first.Since)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	second := r.await(Ready)
	if second.Generation != 42 || second.PID == first.PID || second.Restarts != 1 || second.Failures != 0 {
		t.Errorf("after a restart: %+v", second)
	}
	if e := second.LastExit; e == nil || e.Generation != 41 || e.PID != first.PID || e.Reason != ends.ReasonRestart || e.Signal != unix.SIGTERM || e.Code != -1 || e.Lived <= 0 {
		t.Errorf("end of the first generation: %+v", e)
	}
	if e := <-ended; e.Generation != 41 || e.PID != first.PID || e.ReadyAfter != first.ReadyAfter || e.Lived < e.ReadyAfter {
		t.Errorf("told of the end as %+v, want ready after %s", e, first.ReadyAfter)
	}
	r.wantAnswer("/", "generation 42,")
}

func TestRestartWhileWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.AtOnce = false
	r.run()
	r.await(Waiting)
	r.want(r.outcome(r.supervisor.Restart(false)))
	if s := r.await(Ready); s.Generation != 1 {
		t.Errorf("ready: %+v", s)
	}
}

func TestRestartWhileStarting(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "serve", "gate="+gate))
	r.run()
	r.await(Starting)
	first, second := r.supervisor.Restart(false), r.supervisor.Restart(false)
	r.awaitThat("starting again", func(s Status) bool { return s.State == Starting && s.Generation == 2 })
	open(t, gate)
	r.want(r.outcome(first))
	r.want(r.outcome(second))
	if s := r.await(Ready); s.Generation != 2 || s.LastExit.Reason != ends.ReasonRestart {
		t.Errorf("ready: %+v", s)
	}
}

// TestRestartInTheShim stops generations that are still the shim, which would
// swallow the stop signal. One that is the program already ends by it, as no program in Go would.
func TestRestartInTheShim(t *testing.T) {
	t.Parallel()
	r := newRig(t, []string{"/bin/sleep", "1000"})
	r.spec.StopSignal = unix.SIGUSR1
	r.run()
	for generation := 1; generation <= 5; generation++ {
		r.awaitThat("starting", func(s Status) bool { return s.State == Starting && s.Generation == generation })
		r.supervisor.Restart(false)
	}
	r.awaitThat("starting", func(s Status) bool { return s.State == Starting && s.Generation == 6 })
}

func TestRestartWhileBackingOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "exit", "code=99"))
	r.run()
	r.await(BackingOff)
	r.want(r.outcome(r.supervisor.Restart(false)), "generation 2 ended: exit code 99")
	if s := r.await(BackingOff); s.Generation != 2 || s.Failures != 1 {
		t.Errorf("backoff after a restart: %+v", s)
	}
}

func TestRestartWhileStopping(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "serve", "trap=SIGTERM:-1"))
	r.run()
	pid := r.await(Ready).PID
	first := r.supervisor.Restart(false)
	r.await(Stopping)
	second := r.supervisor.Restart(false)
	spec := r.spec
	spec.Command = command(t, "serve", "gate="+gate)
	third := r.supervisor.Apply(spec, true)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil { // it ignores SIGTERM
		t.Fatal(err)
	}
	open(t, gate) // so it is the new command
	for _, reply := range []<-chan error{first, second, third} {
		r.want(r.outcome(reply))
	}
	if s := r.await(Ready); s.Generation != 2 || s.LastExit.Signal != unix.SIGKILL || s.LastExit.Reason != ends.ReasonRestart {
		t.Errorf("ready: %+v", s)
	}
}

// TestRestartOfUnready asks for the next generation while one that has become
// ready too late is being stopped: each request has an outcome of its own.
func TestRestartOfUnready(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "deaf", "trap=SIGTERM:-1", "gate="+gate))
	r.spec.Probe = generation.ProbeNotify
	r.options.AtOnce = false
	r.run()
	first := r.supervisor.Restart(false)
	open(t, gate)
	r.letTimePass(1)
	pid := r.await(Stopping).PID
	r.want(r.outcome(first), "generation 1: not ready after 1h0m0s", "READY=1")
	spec := r.spec
	spec.Command, spec.Probe = command(t, "serve"), generation.ProbeAdopted
	second := r.supervisor.Apply(spec, true)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.want(r.outcome(second))
	if s := r.await(Ready); s.LastExit.Reason != ends.ReasonUnready || s.Failures != 0 || s.Problem != "" {
		t.Errorf("ready: %+v", s)
	}
}

func TestRequestsAfterTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	r.await(Ready)
	r.stop()
	r.awaitEnd()
	if err := r.outcome(r.supervisor.Restart(false)); !errors.Is(err, ErrStopping) {
		t.Errorf("outcome: %v", err)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	r.await(Ready)
	marked := func(text string) generation.Spec {
		spec := r.spec
		spec.Environment = append(slices.Clone(spec.Environment), "MARK="+text)
		return spec
	}
	r.want(r.outcome(r.supervisor.Apply(marked("later"), false)))
	r.wantAnswer("/", "generation 1,")
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.wantAnswer("/environment", "MARK=later")
	r.want(r.outcome(r.supervisor.Apply(marked("now"), true)))
	r.wantAnswer("/environment", "MARK=now")
	if s := r.awaitThat("generation 3", func(s Status) bool { return s.State == Ready && s.Generation == 3 }); s.LastExit.Reason != ends.ReasonConfig {
		t.Errorf("end of the generation that was replaced: %+v", s.LastExit)
	}
	bad := r.spec
	bad.Command = []string{broken(t)}
	r.want(r.outcome(r.supervisor.Apply(bad, true)), "the interpreter that it names is missing")
	s := r.await(BackingOff)
	if !strings.Contains(s.Problem, "generation 4") || s.LastExit.Code != 127 || s.PID != 0 {
		t.Errorf("backoff: %+v", s)
	}
	// Clients wait meanwhile; the good configuration serves them.
	client := sockets.Dial(t, r.spec.Sockets[0].Address)
	r.want(r.outcome(r.supervisor.Apply(r.spec, true)))
	if _, err := fmt.Fprint(client, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	n, err := client.Read(answer)
	if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.0 200")) {
		t.Errorf("the client that had waited: %q, %v", answer[:n], err)
	}
}

// TestApplyWhileStarting: the present generation goes on with what it was made from.
func TestApplyWhileStarting(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "serve", "gate="+gate))
	later := r.spec
	later.Sockets = []handoff.Socket{listen(t, "127.0.0.1")}
	queues := &testQueues{sockets: later.Sockets}
	later.Queues = queues
	r.run()
	r.await(Starting)
	applied := r.supervisor.Apply(later, false)
	open(t, gate)
	r.await(Ready)
	r.want(r.outcome(applied))
	_, listens := r.queues.counts()
	restored, others := queues.counts()
	if listens != 1 || restored != 0 || others != 0 {
		t.Errorf("sockets given their backlog %d times, want once; those of the next generation restored %d times, given it %d times, want never",
			listens, restored, others)
	}
}

func TestApplyWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, []string{"no-such-program"})
			r.options.AtOnce = false
			other := listen(t, "127.0.0.1")
			r.run()
			r.await(Waiting)
			spec := r.spec
			// Another socket too: the wait has to be for a client of that one.
			spec.Sockets = []handoff.Socket{other}
			spec.Queues = &testQueues{sockets: spec.Sockets}
			spec.Command = command(t, "serve")
			r.want(r.outcome(r.supervisor.Apply(spec, restart)))
			if diff := cmp.Diff([]State{Waiting}, r.states()); diff != "" {
				t.Fatal(diff)
			}
			r.spec = spec
			r.wantAnswer("/", "generation 1,")
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	refused := generation.Spec{Refused: errors.New("worker.command: nothing to run")}
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("restart ", restart), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			good := r.spec
			r.spec = refused
			r.run()
			if s := r.await(Failed); s.Problem != refused.Refused.Error() {
				t.Errorf("failed: %+v", s)
			}
			r.want(r.outcome(r.supervisor.Restart(false)), "nothing to run")
			r.want(r.outcome(r.supervisor.Apply(refused, true)), "nothing to run")
			r.want(r.outcome(r.supervisor.Apply(good, restart)))
			if s := r.await(Ready); s.Problem != "" || s.Generation != 1 {
				t.Errorf("ready: %+v", s)
			}
		})
	}
	for _, atOnce := range []bool{false, true} {
		t.Run(fmt.Sprint("changes nothing, at once ", atOnce), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			r.options.AtOnce = atOnce
			r.run()
			if atOnce {
				r.await(Ready)
			}
			r.want(r.outcome(r.supervisor.Apply(refused, true)), "nothing to run")
			r.want(r.outcome(r.supervisor.Apply(refused, false)), "nothing to run")
			r.wantAnswer("/", "generation 1,")
			r.want(r.outcome(r.supervisor.Restart(false)))
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "exit", "code=99"))
	r.spec.Backoff = generation.Backoff{Min: 10 * time.Millisecond, Max: 40 * time.Millisecond}
	r.run()
	for i, want := range []time.Duration{10, 20, 40, 40, 40} {
		s := r.await(BackingOff)
		pause, want := s.NextStart.Sub(s.Since), want*time.Millisecond
		if pause < want*8/10 || pause > min(want*12/10, r.spec.Backoff.Max) {
			t.Errorf("pause %d: %s, want %s more or less", i+1, pause, want)
		}
		if s.Failures != i+1 || s.Generation != i+1 || s.PID != 0 {
			t.Errorf("backoff %d: %+v", i+1, s)
		}
		if e := s.LastExit; e.Generation != i+1 || e.Reason != ends.ReasonCrash || e.Code != 99 || e.Signal != 0 {
			t.Errorf("end of generation %d: %+v", i+1, e)
		}
		if want := fmt.Sprintf("generation %d ended: exit code 99: it has listened on nothing; a server that binds %s itself cannot", i+1, r.spec.Sockets[0].Address); !strings.HasPrefix(s.Problem, want) {
			t.Errorf("problem %q, want %q", s.Problem, want)
		}
		if next := r.await(Starting); next.Since.Sub(s.Since) < pause || !next.NextStart.IsZero() {
			t.Errorf("%s after the end of generation %d: %+v; want a pause of %s", next.Since.Sub(s.Since), i+1, next, pause)
		}
	}
}

func TestCrashOfReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Backoff = generation.Backoff{Min: time.Millisecond, Max: time.Hour, ResetAfter: time.Hour}
	r.run()
	for i := range 3 {
		s := r.await(Ready)
		if s.Failures != i || s.Problem != "" {
			t.Errorf("ready: %+v", s)
		}
		if err := unix.Kill(s.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if s := r.await(BackingOff); s.LastExit.Signal != unix.SIGKILL || s.LastExit.Reason != ends.ReasonCrash {
			t.Errorf("backoff: %+v", s)
		}
	}
	r.await(Ready)
	// The row is broken.
	spec := r.spec
	spec.Backoff.ResetAfter = time.Millisecond
	r.want(r.outcome(r.supervisor.Apply(spec, true)))
	r.await(Ready)
	r.exit(3)
	r.await(BackingOff)
	r.awaitThat("proven", func(s Status) bool { return s.State == Ready && s.Failures == 0 })
	r.exit(3)
	if s := r.await(BackingOff); s.Failures != 1 || s.NextStart.Sub(s.Since) > 2*time.Millisecond {
		t.Errorf("backoff after a generation that had proven itself: %+v", s)
	}
}

func TestResetAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Backoff = generation.Backoff{Min: time.Millisecond, Max: time.Hour}
	r.run()
	for range 3 {
		r.await(Ready)
		r.exit(3)
		if s := r.await(BackingOff); s.Failures != 1 {
			t.Errorf("backoff: %+v", s)
		}
	}
}

// TestApplyWhileBackingOff: what does not concern the worker leaves the row of
// failures as it is.
func TestApplyWhileBackingOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "exit", "code=99"))
	r.run()
	before := r.await(BackingOff)
	r.want(r.outcome(r.supervisor.Apply(r.spec, false)))
	r.want(r.outcome(r.supervisor.Restart(false)), "exit code 99")
	r.await(BackingOff)
	if diff := cmp.Diff([]State{Starting, BackingOff, Starting, BackingOff}, r.states()); diff != "" {
		t.Error(diff)
	}
	for _, s := range r.all() {
		if s.State == BackingOff && (s.Failures != 1 || s.NextStart.IsZero() || s.Problem == "") {
			t.Errorf("backoff: %+v, before: %+v", s, before)
		}
	}
}

func TestWorkerRestartsItself(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.flash = 1
	r.run()
	for generation := 1; generation <= 2*mostFlashes; generation++ {
		r.await(Ready)
		r.exit(0)
		if s := r.await(Starting); s.Generation != generation+1 || s.LastExit.Reason != ends.ReasonRestart || s.LastExit.Code != 0 ||
			s.Failures != 0 || !strings.Contains(s.LastExit.Detail, "the worker itself asked") {
			t.Errorf("after exit code 0: %+v, %+v", s, s.LastExit)
		}
	}
	r.await(Ready)
	if slices.Contains(r.states(), BackingOff) {
		t.Errorf("states: %v", r.states())
	}
}

// TestFlashes: one that ends as soon as it is ready, again and again, serves nobody.
func TestFlashes(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.flash = time.Hour
	r.spec.Backoff.Min = time.Millisecond
	r.spec.Backoff.Max = time.Millisecond
	r.run()
	for range mostFlashes - 1 {
		r.await(Ready)
		r.exit(0)
	}
	r.await(Ready)
	if slices.Contains(r.states(), BackingOff) {
		t.Errorf("states: %v", r.states())
	}
	for failures := 1; failures <= 2; failures++ {
		r.exit(0)
		if s := r.await(BackingOff); s.Failures != failures || !strings.Contains(s.Problem, "exit code 0") {
			t.Errorf("after too many: %+v", s)
		}
		r.await(Ready)
	}
	// Somebody who asks begins anew.
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.await(Ready)
	r.exit(0)
	r.await(Ready)
	if s := r.all(); s[len(s)-1].Failures != 0 {
		t.Errorf("after a restart: %+v", s[len(s)-1])
	}
}

// TestWaitAfterExit0: a worker that ends by itself when nobody needs it is followed by the next client.
func TestWaitAfterExit0(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.WaitAfterExit0, r.options.flash = true, 1
	r.run()
	for generation := 1; generation <= 2; generation++ {
		r.await(Ready)
		r.exit(0)
		if s := r.await(Waiting); s.Generation != generation || s.PID != 0 || s.Failures != 0 || s.Problem != "" {
			t.Errorf("waiting as %+v", s)
		}
		r.wantAnswer("/", fmt.Sprintf("generation %d", generation+1))
	}
	// Another exit code is a failure.
	r.exit(3)
	r.await(BackingOff)
}

// TestWaitAfterExit0Exits: with somebody else who starts everything again, Run returns.
func TestWaitAfterExit0Exits(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.WaitAfterExit0, r.options.ExitIdle = true, true
	r.run()
	r.await(Ready)
	r.exit(0)
	r.awaitEnd()
	if r.why != ends.ReasonIdle {
		t.Errorf("Run returned %q, want %q", r.why, ends.ReasonIdle)
	}
}

func TestExitBeforeReady(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "exit", "code=0"))
	r.run()
	if s := r.await(BackingOff); s.LastExit.Reason != ends.ReasonCrash || s.LastExit.Code != 0 {
		t.Errorf("backoff: %+v", s)
	}
}

func TestFatalExitCode(t *testing.T) {
	t.Parallel()
	ways := map[string]func(*rig) <-chan error{
		"restart":               func(r *rig) <-chan error { return r.supervisor.Restart(false) },
		"apply":                 func(r *rig) <-chan error { return r.supervisor.Apply(r.spec, true) },
		"apply without restart": func(r *rig) <-chan error { return r.supervisor.Apply(r.spec, false) },
	}
	for name, leave := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve"))
			r.run()
			r.await(Ready)
			r.exit(78)
			s := r.await(Failed)
			if s.Failures != 1 || !s.NextStart.IsZero() || s.LastExit.Code != 78 ||
				!strings.HasPrefix(s.Problem, "generation 1 ended: exit code 78 (in restart.fatal_exit_codes") {
				t.Errorf("failed: %+v", s)
			}
			r.want(r.outcome(leave(r)))
			if s := r.await(Ready); s.Generation != 2 || s.Problem != "" || s.Failures != 0 {
				t.Errorf("ready: %+v", s)
			}
		})
	}
}

func TestFatalAtRestart(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	r.await(Ready)
	spec := r.spec
	spec.Command = command(t, "exit", "code=99")
	spec.FatalExitCodes = []int{99}
	r.want(r.outcome(r.supervisor.Apply(spec, true)), "exit code 99", "no retry until")
	r.await(Failed)
}

func TestCannotStart(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := write("file", "#!/bin/sh\n", 0o644)
	for name, test := range map[string]struct {
		change func(*rig)
		code   int
		says   []string
	}{
		"name not in PATH":     {func(r *rig) { r.spec.Command[0] = "no-such-program" }, -1, []string{"worker.command", `"no-such-program" is not in the PATH`}},
		"program missing":      {func(r *rig) { r.spec.Command[0] = "/no/such/program" }, -1, []string{"worker.command", "/no/such/program", "no such file"}},
		"relative and missing": {func(r *rig) { r.spec.Command[0] = "./program" }, -1, []string{"worker.command", filepath.Join(directory, "program")}},
		"empty name":           {func(r *rig) { r.spec.Command[0] = "" }, -1, []string{"worker.command"}},
		"not executable":       {func(r *rig) { r.spec.Command[0] = file }, -1, []string{"worker.command", file, "permission denied"}},
		"interpreter missing": {
			func(r *rig) { r.spec.Command = []string{write("orphan", "#!/no/such/interpreter\n", 0o755)} },
			127,
			[]string{"generation 1 ended: exit code 127: execute", "interpreter that it names is missing"},
		},
		"no program": {
			func(r *rig) { r.spec.Command = []string{write("text", "hello\n", 0o755)} },
			126,
			[]string{"generation 1 ended: exit code 126: execute", "needs a first line"},
		},
		"directory missing": {func(r *rig) { r.spec.Directory = "/no/such/folder" }, -1, []string{"worker.directory", "/no/such/folder"}},
		"directory a file":  {func(r *rig) { r.spec.Directory = file }, -1, []string{"worker.directory", file, "not a directory"}},
		"handoff":           {func(r *rig) { r.spec.Handoff = "proxy" }, -1, []string{"worker.handoff"}},
		"runtime directory": {
			func(r *rig) { r.options.Directory, r.spec.Probe = "/no/such/folder", generation.ProbeNotify },
			-1,
			[]string{"notify socket", "/no/such/folder"},
		},
		"sockets": {func(r *rig) { r.queues.failRestore = errors.New("the sockets are gone") }, -1, []string{"the sockets are gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, command(t, "serve"))
			r.spec.Directory = directory
			r.options.AtOnce = false
			test.change(r)
			r.run()
			r.want(r.outcome(r.supervisor.Restart(false)), test.says...)
			s := r.await(BackingOff)
			if s.LastExit == nil || s.LastExit.Code != test.code || s.LastExit.Reason != ends.ReasonCrash || s.PID != 0 || s.Failures != 1 {
				t.Errorf("backoff: %+v, last exit %+v", s, s.LastExit)
			}
			for _, text := range test.says {
				if !strings.Contains(s.Problem, text) {
					t.Errorf("problem %q, want %q in it", s.Problem, text)
				}
			}
		})
	}
}

// TestWithoutHome: where nobody has named a directory, none keeps the worker from its start.
func TestWithoutHome(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for wished, want := range map[string]string{home: home, filepath.Join(home, "none"): "/"} {
		r := newRig(t, command(t, "serve"))
		r.spec.Directory, r.spec.Home = "", wished
		r.run()
		if got, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", r.await(Ready).PID)); got != want {
			t.Errorf("with home %s it starts in %s, want %s (%v)", wished, got, want, err)
		}
	}
}

func TestReadyTimeout(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "deaf"))
	r.spec.ReadyTimeout = 300 * time.Millisecond
	r.run()
	started := r.await(Starting)
	s := r.await(Stopping)
	if !strings.HasPrefix(s.Problem, "generation 1: not ready after 300ms (ready.timeout): it has not taken a connection") {
		t.Errorf("stopping: %+v", s)
	}
	if after := s.Since.Sub(started.Since); after < r.spec.ReadyTimeout {
		t.Errorf("not ready after %s", after)
	}
	if s := r.await(BackingOff); s.LastExit.Reason != ends.ReasonUnready {
		t.Errorf("backoff: %+v", s)
	}
}

func TestNotReadyInTime(t *testing.T) {
	t.Parallel()
	const elsewhere = "127.0.0.1:9"
	for name, test := range map[string]struct {
		program string
		options []string
		change  func(*rig)
		until   string // this is in the log
		says    string
	}{
		"never accepts": {
			program: "deaf",
			says:    "it has not taken a connection on HELD: does it accept sockets by the listen-fds protocol?",
		},
		"elsewhere": {
			program: "deaf",
			change: func(r *rig) {
				r.options.ListensOn = func(int) []netaddr.Address {
					return []netaddr.Address{netaddr.MustParse(elsewhere), r.spec.Sockets[0].Address}
				}
			},
			says: "it listens on " + elsewhere + ", not on HELD: set its port in worker.command",
		},
		"only on the held one": {
			program: "deaf",
			change: func(r *rig) {
				r.options.ListensOn = func(int) []netaddr.Address { return r.held() }
			},
			says: "it has not taken a connection on HELD",
		},
		"never says so": {
			program: "serve",
			change:  func(r *rig) { r.spec.Probe = generation.ProbeNotify },
			says:    "it has not said READY=1",
		},
		"answers 503, and listens elsewhere too": {
			program: "serve",
			options: []string{"unready=1000000"},
			change: func(r *rig) {
				r.spec.Probe, r.spec.ReadyPath = generation.ProbeHTTP, "/ready"
				r.options.ListensOn = func(int) []netaddr.Address { return []netaddr.Address{netaddr.MustParse(elsewhere)} }
			},
			until: "was answered with 503",
			says:  "GET http://HELD/ready was answered with 503 Service Unavailable",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, test.program, append(test.options, "gate="+gate)...))
			r.options.AtOnce = false
			if test.change != nil {
				test.change(r)
			}
			// The process can be the worker before the launcher has heard of it; until then it would get SIGKILL.
			started := make(chan *generation.Generation, 1)
			r.options.Observe = func(status Status) {
				if status.State == Starting {
					select {
					case started <- r.supervisor.coming:
					default:
					}
				}
				r.observe(status)
			}
			r.run()
			reply := r.supervisor.Restart(false)
			open(t, gate)
			r.awaitLog(test.until)
			<-(<-started).Executed
			r.letTimePass(1)
			says := strings.ReplaceAll(test.says, "HELD", r.spec.Sockets[0].Address.String())
			r.want(r.outcome(reply), "generation 1: not ready after 1h0m0s (ready.timeout): "+says)
			s := r.await(BackingOff)
			if s.LastExit.Reason != ends.ReasonUnready || s.LastExit.Signal != unix.SIGTERM || s.Failures != 1 || !strings.Contains(s.Problem, says) ||
				!strings.Contains(s.LastExit.Detail, says) {
				t.Errorf("backoff: %+v, last exit %+v", s, s.LastExit)
			}
		})
	}
}

// TestStaleEvents plays a goroutine of an old generation that comes too late.
func TestStaleEvents(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	r.await(Ready)
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.await(Ready)
	before := len(r.all())
	for kind := generation.BecameReady; kind <= generation.Ended; kind++ {
		r.supervisor.around.Events <- generation.Event{Kind: kind, Generation: 1, Err: errors.New("stale"), Report: handoff.Report{Event: handoff.Exhausted}}
	}
	r.supervisor.around.Events <- generation.Event{Kind: generation.Probed, Generation: 2} // so that the others have been taken
	if after := r.all(); len(after) != before {
		t.Errorf("events of generation 1 have changed generation 2:\n%s", r.recorder)
	}
	r.supervisor.around.Events <- generation.Event{Kind: generation.CannotServe, Generation: 2, Err: errors.New("fresh")}
	if s := r.await(BackingOff); s.Problem != "generation 2: fresh" {
		t.Errorf("backoff: %+v", s)
	}
	r.supervisor.around.Events <- generation.Event{Kind: generation.Ended, Generation: 2}
	r.want(r.outcome(r.supervisor.Restart(false)))
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	loop := func() string {
		stack := make([]byte, 64)
		id, _, _ := strings.Cut(string(stack[:runtime.Stack(stack, false)]), "[")
		return id
	}
	observed, beats := make(chan string, 1), make(chan string)
	r.options.Observe = func(s Status) {
		select {
		case observed <- loop():
		default:
		}
		r.observe(s)
	}
	r.options.HeartbeatEvery = time.Millisecond
	r.options.Heartbeat = func() { beats <- loop() }
	r.run()
	owner := <-observed
	for range 5 {
		select {
		case id := <-beats:
			if id != owner {
				t.Errorf("heartbeat from %s, and %s owns the state", id, owner)
			}
		case <-time.After(bound):
			t.Fatal("no heartbeat")
		}
	}
	r.stop()
	for {
		select {
		case <-beats:
			continue
		case <-r.done:
		case <-time.After(bound):
			t.Fatal("no end")
		}
		break
	}
}

// TestEachChangeOnce: a status that is the same is not told again.
func TestEachChangeOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "unready=3"))
	r.spec.Probe, r.spec.ReadyPath = generation.ProbeHTTP, "/ready"
	r.run()
	r.await(Ready)
	seen := r.all()
	for i := range seen[1:] {
		if seen[i] == seen[i+1] {
			t.Errorf("told twice: %+v", seen[i])
		}
	}
}

// TestEnvironment is not parallel: it sets what systemd would.
func TestEnvironment(t *testing.T) {
	for _, key := range tree.Protocol {
		t.Setenv(key, "systemd's")
	}
	t.Setenv("ORDER", "launcher")
	t.Setenv("LAUNCHER_ONLY", "yes")
	r := newRig(t, command(t, "serve"))
	second := listen(t, "127.0.0.1")
	r.spec.Sockets = append(r.spec.Sockets, second)
	r.queues.sockets = r.spec.Sockets
	r.spec.Probe = generation.ProbeAuto
	r.spec.Environment = append(r.spec.Environment, "ORDER=first", "ORDER=spec", "GATEWAY_GENERATION=77", "LISTEN_FDS=9",
		"LISTEN_PID=1", "WATCHDOG_USEC=1", "NOTIFY_SOCKET=/elsewhere", "EMPTY=")
	r.run()
	pid := r.await(Ready).PID
	answer, err := r.get("/environment")
	if err != nil {
		t.Fatal(err)
	}
	var entries []string
	if err := json.Unmarshal([]byte(answer), &entries); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, entry := range entries {
		key, value, _ := strings.Cut(entry, "=")
		if _, twice := got[key]; twice {
			t.Errorf("%s twice", key)
		}
		got[key] = value
	}
	want := map[string]string{
		"LISTEN_PID": strconv.Itoa(pid), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "gateway:gateway",
		"NOTIFY_SOCKET":      filepath.Join(r.options.Directory, "notify-1.sock"),
		"GATEWAY_GENERATION": "1", "ORDER": "spec", "LAUNCHER_ONLY": "yes", "EMPTY": "",
	}
	for key := range got {
		if _, wanted := want[key]; !wanted && !slices.Contains(tree.Protocol, key) {
			delete(got, key)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFailedStartIsUndone is not parallel: it counts what the process has.
func TestFailedStartIsUndone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nameless")
	if err := os.WriteFile(path, []byte("echo hello\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, []string{path})
	r.spec.Handoff, r.spec.Probe = handoff.Preload, generation.ProbeAuto
	r.run()
	r.await(BackingOff)
	count := func() (descriptors, files int) {
		for folder, n := range map[string]*int{"/proc/self/fd": &descriptors, r.options.Directory: &files} {
			entries, err := os.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			*n = len(entries)
		}
		return descriptors, files
	}
	r.want(r.outcome(r.supervisor.Restart(false)), "exec format error")
	descriptors, files := count()
	const generations = 10
	for range generations {
		r.want(r.outcome(r.supervisor.Restart(false)), "exec format error")
	}
	if descriptorsNow, filesNow := count(); descriptorsNow > descriptors+generations/2 || filesNow > files {
		t.Errorf("after %d generations that could not start: %d descriptors, %d files; before: %d, %d",
			generations, descriptorsNow, filesNow, descriptors, files)
	}
	if n := r.supervisor.around.Trees.Len(); n != 0 {
		t.Errorf("%d trees are left", n)
	}
}

// TestNothingGrows is not parallel: it counts what the process has.
func TestNothingGrows(t *testing.T) {
	r := newRig(t, command(t, "serve", "notify=self"))
	r.spec.Probe = generation.ProbeAuto
	r.run()
	r.await(Ready)
	count := func() (descriptors, goroutines, files int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		sockets, err := os.ReadDir(r.options.Directory)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries), runtime.NumGoroutine(), len(sockets)
	}
	r.want(r.outcome(r.supervisor.Restart(false)))
	descriptors, goroutines, files := count()
	const generations = 30
	for range generations {
		r.want(r.outcome(r.supervisor.Restart(false)))
	}
	// Some of the last generation's end a moment later.
	const slack = generations / 2
	descriptorsNow, goroutinesNow, filesNow := count()
	if descriptorsNow > descriptors+slack || goroutinesNow > goroutines+slack || filesNow > files+slack {
		stacks := make([]byte, 1<<20)
		t.Errorf("after %d generations: %d descriptors, %d goroutines, %d files; before: %d, %d, %d\n%s", generations,
			descriptorsNow, goroutinesNow, filesNow, descriptors, goroutines, files, stacks[:runtime.Stack(stacks, true)])
	}
}
