package worker

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/proctree"
)

// number asks for one.
func (r *rig) number(path string) int {
	r.t.Helper()
	answer, err := r.get(path)
	if err != nil {
		r.t.Fatal(err)
	}
	number, err := strconv.Atoi(answer)
	if err != nil {
		r.t.Fatal(err)
	}
	return number
}

// says has the worker say it by sd_notify(3).
func (r *rig) says(text string) {
	r.t.Helper()
	if _, err := r.get("/say/" + text); err != nil {
		r.t.Fatal(err)
	}
}

// TestExtended: a worker that asks for more time while it starts has it, and says what it does.
func TestExtended(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "deaf", "say=STATUS=migrating table 3 of 6\nEXTEND_TIMEOUT_USEC=7200000000", "trap=SIGTERM:-1"))
	r.run()
	s := r.awaitThat("more than the hour of ready.timeout", func(s Status) bool { return time.Until(s.Until) > 61*time.Minute })
	if s.State != Starting || s.Says != "migrating table 3 of 6" {
		t.Errorf("it says %q: %+v", s.Says, s)
	}
	r.letTimePass(1)
	if s := r.await(Stopping); !strings.Contains(s.Problem, "not ready in the time that it has asked for (EXTEND_TIMEOUT_USEC=)") {
		t.Errorf("the problem is %q", s.Problem)
	}
}

// TestExtendedStop: and while it stops; who ends with it has to be told.
func TestExtendedStop(t *testing.T) {
	t.Parallel()
	gate := fifo(t)
	r := newRig(t, command(t, "serve", "trap=SIGTERM:-1", "mib=1", "leave="+gate))
	extended := make(chan time.Duration, 1)
	r.options.Extended = func(more time.Duration) { extended <- more }
	r.run()
	hear(t, gate)
	r.await(Ready)
	r.stop()
	r.await(Stopping)
	r.says("EXTEND_TIMEOUT_USEC=7200000000")
	within(t, "the stop is extended", func() error {
		if more := <-extended; more != 2*time.Hour {
			return fmt.Errorf("by %s", more)
		}
		return nil
	})
	r.awaitThat("more than the hour of stop.timeout", func(s Status) bool { return s.State == Stopping && time.Until(s.Until) > 61*time.Minute })
}

// TestReloads: it serves meanwhile.
func TestReloads(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "notify=self"))
	r.spec.Probe = generation.ProbeAuto
	r.run()
	r.await(Ready)
	r.says("RELOADING=1")
	if s := r.awaitThat("reloading", func(s Status) bool { return s.Says != "" }); s.State != Ready {
		t.Errorf("while it reloads: %+v", s)
	}
	r.says("READY=1")
	r.awaitThat("reloaded", func(s Status) bool { return s.State == Ready && s.Says == "" })
}

// TestStopsItself: who says so serves nobody any more, and has the time of a stop.
func TestStopsItself(t *testing.T) {
	t.Parallel()
	for code, reason := range map[int]ends.Reason{0: ends.ReasonRestart, 3: ends.ReasonCrash} {
		r := newRig(t, command(t, "serve"))
		r.options.flash = 1
		r.run()
		r.await(Ready)
		r.says("STOPPING=1")
		if s := r.await(Stopping); s.Ending != "" || s.Until.IsZero() {
			t.Errorf("stopping: %+v", s)
		}
		r.exit(code)
		s := r.awaitThat("ended", func(s Status) bool { return s.LastExit != nil })
		if r.wantReason(s, reason); s.LastExit.Code != code {
			t.Errorf("the end: %+v", s.LastExit)
		}
	}
}

// TestDescriptorsAreRefused: with a word, and nobody waits for the answer.
func TestDescriptorsAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "say=FDSTORE=1\nFDNAME=x"))
	r.run()
	r.await(Ready)
	r.awaitLog("FDSTORE=1")
}

// newMainRig is for a worker that names another main process.
func newMainRig(t *testing.T, options ...string) (r *rig, old Status) {
	t.Helper()
	r = newRig(t, command(t, "serve", options...))
	r.options.Alone, r.options.flash = true, 1
	r.run()
	return r, r.await(Ready)
}

func (r *rig) awaitMain(pid int) {
	r.t.Helper()
	if s := r.awaitThat("another main process", func(s Status) bool { return s.PID == pid }); s.State != Ready || s.Generation != 1 {
		r.t.Errorf("with another main process: %+v", s)
	}
}

// TestMainPID: the end of who named its successor is nothing, and that of the successor is the generation's.
func TestMainPID(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r, old := newMainRig(t)
	successor := r.number("/successor/then")
	r.says(fmt.Sprintf("MAINPID=%d", successor))
	r.awaitMain(successor)
	if err := unix.Kill(old.PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r.wantAnswer("/", fmt.Sprintf("generation 1, pid %d", successor))
	}
	within(t, "who is not the main process any more is reaped", func() error {
		for alive(old.PID) {
		}
		return nil
	})
	r.exit(7)
	if s := r.await(BackingOff); s.LastExit.Code != 7 || s.LastExit.Generation != 1 || len(s.LastExit.Strays) != 0 {
		t.Errorf("the end of the successor: %+v", s.LastExit)
	}
}

// TestMainPIDRightBeforeTheEnd: it has been said, so it counts.
func TestMainPIDRightBeforeTheEnd(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r, old := newMainRig(t)
	for range 20 {
		_, _ = r.get("/successor/leave") // it cannot answer
		next := r.awaitThat("another main process", func(s Status) bool { return s.PID != old.PID })
		if next.State != Ready || next.Generation != 1 {
			t.Fatalf("with another main process: %+v", next)
		}
		old = next
		r.wantAnswer("/", fmt.Sprintf("generation 1, pid %d", next.PID))
	}
	// The signal goes to the last one.
	if s := r.ended(); s.LastExit.Signal != unix.SIGTERM || len(s.LastExit.Strays) != 0 {
		t.Errorf("the end: %+v", s.LastExit)
	}
}

// TestMainPIDOfSomebodyElses: how it ended is known when its parent has not asked, and else it is a crash.
func TestMainPIDOfSomebodyElses(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	for then, code := range map[string]int{"then": -1, "reap": -2} {
		r, old := newMainRig(t, "trap=SIGTERM:-1")
		successor := r.number("/successor/" + then)
		r.says(fmt.Sprintf("MAINPID=%d", successor))
		r.awaitMain(successor)
		if err := unix.Kill(successor, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.await(Stopping)
		within(t, "the parent has reaped it, where it does so", func() error {
			for then == "reap" {
				if _, err := proctree.Find(successor); errors.Is(err, os.ErrNotExist) {
					return nil
				}
			}
			return nil
		})
		if err := unix.Kill(old.PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		s := r.await(BackingOff)
		if r.wantReason(s, ends.ReasonCrash); s.LastExit.Code != code || len(s.LastExit.Strays) != 1 || alive(old.PID) {
			t.Errorf("%s: the end: %+v, signal %d", then, s.LastExit, s.LastExit.Signal)
		}
		r.stop()
		r.awaitEnd()
	}
}

// TestMainPIDRefused: of another than one of its own processes.
func TestMainPIDRefused(t *testing.T) {
	t.Parallel()
	if !alone(t, "") {
		return
	}
	r, old := newMainRig(t)
	other := bystander(t)
	none := func(pid int) string { return fmt.Sprintf("process %d is none of this generation", pid) }
	refused := map[string]string{
		"1": none(1), strconv.Itoa(os.Getpid()): none(os.Getpid()), strconv.Itoa(other.Process.Pid): none(other.Process.Pid),
		"x": `x\" is no pid`, "-1": `-1\" is no pid`, "4194304": "4194304: no such",
	}
	for text, why := range refused {
		r.says("MAINPID=" + text)
		r.awaitLog(why)
	}
	if s := r.all(); s[len(s)-1].PID != old.PID || strings.Count(r.log.String(), "is not followed") != len(refused) {
		t.Errorf("%+v\n%s", s[len(s)-1], r.log)
	}
	r.says(fmt.Sprintf("MAINPID=%d", old.PID))
	r.wantAnswer("/", fmt.Sprintf("generation 1, pid %d", old.PID))
	if s := r.ended(); s.LastExit.Signal != unix.SIGTERM {
		t.Errorf("the end: %+v", s.LastExit)
	}
}

// restRig is a worker that leaves a process, which takes SIGTERM or is deaf to it.
func restRig(t *testing.T, left string, serving func() bool) (r *rig, pid int) {
	t.Helper()
	told := fifo(t)
	r = newRig(t, command(t, "serve", "mib=1", "leave="+told, "left="+left))
	r.options.RestTimeout = 30 * time.Minute
	r.options.Serving = func(pids []int) bool {
		if len(pids) != 1 || pids[0] != pid {
			t.Errorf("asked whether %v serve", pids)
		}
		return serving()
	}
	r.run()
	pid, err := strconv.Atoi(hear(t, told))
	if err != nil {
		t.Fatal(err)
	}
	r.await(Ready)
	return r, pid
}

// TestRest: what the main process leaves gets the stop signal.
func TestRest(t *testing.T) {
	t.Parallel()
	t.Run("ends by it", func(t *testing.T) {
		t.Parallel()
		r, pid := restRig(t, "SIGTERM:0", nil)
		r.exit(3)
		if s := r.await(BackingOff); len(s.LastExit.Strays) != 1 || s.LastExit.Strays[0].PID != pid || s.LastExit.Killed != 0 || s.LastExit.Code != 3 {
			t.Errorf("the end: %+v", s.LastExit)
		}
	})
	t.Run("is deaf", func(t *testing.T) {
		t.Parallel()
		serving := atomic.Int64{}
		r, pid := restRig(t, "SIGTERM:-1", func() bool { return serving.Add(1) <= 2 })
		r.stop()
		s := r.awaitThat("without its main process", func(s Status) bool { return s.State == Stopping && time.Until(s.Until) < 31*time.Minute })
		if s.Ending != ends.ReasonStop {
			t.Errorf("stopping: %+v", s)
		}
		// It answers somebody, and then nobody.
		for range 3 {
			r.letTimePass(1)
		}
		if s := r.await(Stopped); s.LastExit.Killed != 1 || serving.Load() < 3 || alive(pid) {
			t.Errorf("after %d looks: %+v", serving.Load(), s.LastExit)
		}
	})
	t.Run("somebody is in a hurry", func(t *testing.T) {
		t.Parallel()
		r, pid := restRig(t, "SIGTERM:-1", nil)
		r.exit(3)
		r.await(Stopping)
		_ = r.supervisor.Restart(true)
		if s := r.await(Starting); s.LastExit.Killed != 1 || s.LastExit.Code != 3 || alive(pid) {
			t.Errorf("the end: %+v", s.LastExit)
		}
	})
}

// TestStopAll: everybody is told at once, also when the main process does not end.
func TestStopAll(t *testing.T) {
	t.Parallel()
	told := fifo(t)
	r := newRig(t, command(t, "serve", "trap=SIGTERM:-1", "mib=1", "leave="+told))
	r.spec.StopAll = true
	r.run()
	pid, err := strconv.Atoi(hear(t, told))
	if err != nil {
		t.Fatal(err)
	}
	r.await(Ready)
	r.stop()
	stopping := r.await(Stopping)
	within(t, "a process beside the main one takes the signal", func() error {
		for alive(pid) {
		}
		return nil
	})
	if !alive(stopping.PID) {
		t.Error("the main process, which is deaf, has ended")
	}
}
