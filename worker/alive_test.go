package worker

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/proctree"
	"openclaw-gateway/worker/signs"
)

// awaitHung waits for a status that says by which sign the ready worker hangs; "": by none.
func (r *rig) awaitHung(by signs.Sign) Status {
	r.t.Helper()
	return r.awaitThat("hung by "+string(by), func(s Status) bool {
		return s.State == Ready && (s.Hung == nil && by == "" || s.Hung != nil && s.Hung.By == by)
	})
}

// signal sends a signal to the worker's main process, which only this test can have started.
func (r *rig) signal(s Status, signal unix.Signal) {
	r.t.Helper()
	if err := unix.Kill(s.PID, signal); err != nil {
		r.t.Fatal(err)
	}
}

// stall has the queue tell of a client that waits too long.
func (r *rig) stall() netaddr.Address {
	r.t.Helper()
	address := r.spec.Sockets[0].Address
	select {
	case r.queues.stalls <- address:
	case <-time.After(bound):
		r.t.Fatalf("nobody has waited for a stall within %s", bound)
	}
	return address
}

// stallRig is a rig whose queue can stall.
func stallRig(t *testing.T, alive signs.Settings, command []string) *rig {
	r := newRig(t, command)
	r.queues.stalls, r.queues.reliefs = make(chan netaddr.Address), make(chan netaddr.Address)
	r.spec.Alive = alive
	return r
}

// TestHungByQueue: it is told, and taken back, as often as it happens; the worker is left alone.
func TestHungByQueue(t *testing.T) {
	t.Parallel()
	r := stallRig(t, signs.Settings{Queue: time.Minute, StopTimeout: time.Hour}, command(t, "serve"))
	r.run()
	r.await(Ready)
	for range 2 {
		address := r.stall()
		s := r.awaitHung(signs.ByQueue)
		if s.Hung.Address != address || time.Since(s.Hung.Since) < time.Minute || !strings.Contains(s.Hung.Detail, address.String()) {
			t.Errorf("hung: %+v, want since a minute on %s", s.Hung, address)
		}
		r.awaitLog("worker hangs")
		r.queues.reliefs <- address
		r.awaitHung("")
		r.awaitLog("worker serves again")
	}
	r.wantAnswer("/", "generation 1,")
}

// TestHungUnseen: where the queue cannot be seen, that is said, in the status too, until it is not looked at any more.
func TestHungUnseen(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Alive = signs.Settings{Queue: time.Minute}
	r.run()
	r.awaitLog("a worker that hangs is not noticed by its queue (alive.queue)")
	r.awaitThat("why", func(s Status) bool { return s.State == Ready && s.Blind == "nothing can be seen" })
	r.wantAnswer("/", "generation 1,")
	spec := r.spec
	spec.Alive.Queue = 0
	r.want(r.outcome(r.supervisor.Apply(spec, false)))
	r.awaitThat("nothing", func(s Status) bool { return s.State == Ready && s.Blind == "" })
}

// TestHungUnasked: where alive.path leads nowhere, that is said, in the status too, until an address is there.
func TestHungUnasked(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.queues.leave(r.held()...)
	r.spec.Alive = signs.Settings{Path: "/", Interval: 50 * time.Millisecond, Timeout: 2 * time.Second, Failures: 2}
	r.run()
	r.awaitLog("a worker that hangs is not noticed by its answers (alive.path)")
	r.awaitThat("why", func(s Status) bool {
		return s.State == Ready && strings.Contains(s.Mute, "no address of listen can be asked")
	})
	r.queues.leave()
	r.awaitThat("nothing", func(s Status) bool { return s.State == Ready && s.Mute == "" })
}

// TestHungReplaced: with alive.restart the next generation comes at once, also of a worker that takes no signal, without
// waiting stop.timeout, which is an hour here.
func TestHungReplaced(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		command []string
		alive   signs.Settings
		signal  unix.Signal // to the worker that hangs; 0: none
		want    unix.Signal // which ends it
	}{
		"takes no signal": {command(t, "serve", "trap=SIGTERM:-1"), signs.Settings{StopTimeout: 100 * time.Millisecond}, 0, unix.SIGKILL},
		"was stopped":     {command(t, "serve"), signs.Settings{StopTimeout: time.Hour}, unix.SIGSTOP, unix.SIGTERM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.alive.Queue, test.alive.Restart = time.Minute, true
			r := stallRig(t, test.alive, test.command)
			r.run()
			ready := r.await(Ready)
			if test.signal != 0 {
				r.signal(ready, test.signal)
			}
			r.stall()
			if s := r.await(Stopping); s.Ending != ends.ReasonHung {
				t.Errorf("ending: %s, want %s", s.Ending, ends.ReasonHung)
			}
			s := r.await(Starting)
			if s.Generation != 2 || s.LastExit.Signal != test.want || s.LastExit.Reason != ends.ReasonHung ||
				!strings.Contains(s.LastExit.Detail, "not accepted") {
				t.Errorf("generation %d after %+v, want the second after %s", s.Generation, s.LastExit, test.want)
			}
			r.await(Ready)
			r.wantAnswer("/", "generation 2,")
		})
	}
}

// TestHungForEver: a worker that hangs each time is started less and less often.
func TestHungForEver(t *testing.T) {
	t.Parallel()
	r := stallRig(t, signs.Settings{Queue: time.Minute, Restart: true, StopTimeout: time.Hour}, command(t, "serve"))
	r.run()
	for range promptRestarts + 1 {
		r.await(Ready)
		r.stall()
	}
	if s := r.await(BackingOff); s.Failures != promptRestarts+1 || !strings.Contains(s.Problem, "not accepted") {
		t.Errorf("after %d generations that hung: %+v", promptRestarts+1, s)
	}
}

// TestStopHung: somebody else than alive.restart asks for the next generation of a worker that hangs.
func TestStopHung(t *testing.T) {
	t.Parallel()
	r := stallRig(t, signs.Settings{Queue: time.Minute, StopTimeout: 100 * time.Millisecond}, command(t, "serve", "trap=SIGTERM:-1"))
	r.run()
	r.await(Ready)
	r.stall()
	r.awaitHung(signs.ByQueue)
	r.want(r.outcome(r.supervisor.Restart(false)))
	r.wantAnswer("/", "generation 2,")
}

// TestHungByProbe: a worker that is stopped answers no request of alive.path, and does again when it goes on.
func TestHungByProbe(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.spec.Alive = signs.Settings{
		Path: "/?token=secret", Shown: "/?token=***", Interval: 50 * time.Millisecond, Timeout: 2 * time.Second, Failures: 2, StopTimeout: time.Hour,
	}
	r.run()
	ready := r.await(Ready)
	r.signal(ready, unix.SIGSTOP)
	s := r.awaitHung(signs.ByProbe)
	if !strings.Contains(s.Hung.Detail, "/?token=***") || strings.Contains(s.Hung.Detail, "secret") {
		t.Errorf("hung: %q", s.Hung.Detail)
	}
	if n := queued(t, r.spec.Sockets[0]); n > 1 {
		t.Errorf("%d requests of the launcher stand in the queue, want one at the most", n)
	}
	r.signal(ready, unix.SIGCONT)
	r.awaitHung("")
	r.wantAnswer("/", "generation 1,")
}

// TestHungByWatchdog: a worker that says WATCHDOG=1 in time is left alone, whatever ready.probe is.
func TestHungByWatchdog(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "beat=1"))
	r.spec.Alive = signs.Settings{Watchdog: 2 * time.Second, StopTimeout: time.Hour}
	r.run()
	ready := r.await(Ready)
	r.signal(ready, unix.SIGSTOP)
	if s := r.awaitHung(signs.ByWatchdog); !strings.Contains(s.Hung.Detail, "WATCHDOG=1") {
		t.Errorf("hung: %q", s.Hung.Detail)
	}
	r.signal(ready, unix.SIGCONT)
	r.awaitHung("")
}

// TestWatchdogOfGrandchild: any process of the worker's may say WATCHDOG=1, one that has lost its parent too: its cgroup tells
// whose it is, as for systemd with NotifyAccess=all.
func TestWatchdogOfGrandchild(t *testing.T) {
	if _, ok := inScratch(t, func(string) {}); !ok {
		return
	}
	r := newRig(t, command(t, "serve"))
	r.options.Alone = true
	r.spec.Alive = signs.Settings{Watchdog: time.Second, StopTimeout: time.Hour}
	r.run()
	worker := r.awaitHung(signs.ByWatchdog)
	pid := r.number("/detach/deaf?beat=1")
	r.awaitHung("")
	if proctree.Descends(pid, worker.PID) {
		t.Error("what was detached is a descendant of the worker still: the test has lost its subject")
	}
}

func TestWatchdogTrigger(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "beat=trigger"))
	r.spec.Alive = signs.Settings{Watchdog: time.Second, StopTimeout: time.Hour}
	r.run()
	if s := r.awaitHung(signs.ByWatchdog); !strings.Contains(s.Hung.Detail, "trigger") {
		t.Errorf("hung: %q", s.Hung.Detail)
	}
}

// TestAliveChanges: an edit of alive takes effect with the worker that is there.
func TestAliveChanges(t *testing.T) {
	t.Parallel()
	r := stallRig(t, signs.Settings{}, command(t, "serve"))
	r.run()
	r.await(Ready)
	next := r.edition(2, r.spec.Command)
	next.Alive = signs.Settings{Queue: time.Minute, StopTimeout: time.Hour}
	r.want(r.outcome(r.supervisor.Apply(next, false)))
	r.stall()
	r.awaitHung(signs.ByQueue)
	next.Edition, next.Alive = 3, signs.Settings{}
	r.want(r.outcome(r.supervisor.Apply(next, false)))
	r.awaitHung("")
}
