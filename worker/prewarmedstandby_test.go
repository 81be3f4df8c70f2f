package worker

import (
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/signs"
)

// stood starts the serving generation, the second one, and its standby, which has loaded its modules.
func (r *prewarmedRig) stood() Status {
	r.t.Helper()
	r.prewarmed()
	r.letTimePass(2)
	return r.standby(r.group, 3)
}

// TestPrewarmedStandby: every crossing of a generation and the one that stands by for it with its modules loaded ahead.
func TestPrewarmedStandby(t *testing.T) {
	path, ok := inScratch(t, func(string) {})
	if !ok {
		return
	}
	for name, c := range map[string]func(*testing.T, *prewarmedRig){
		"crash": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			if n := r.begun(); n != 2 || s.Successor.Modules == 0 || s.NoStandby != "" {
				t.Errorf("%d have begun, and the standby is %+v", n, s.Successor)
			}
			killPID(t, s.PID)
			r.ended(2, ends.ReasonCrash)
			if now := r.servedBy(3); !now.Prewarmed || now.Failures != 1 || now.Cold != "" || now.PID != s.Successor.PID {
				t.Errorf("the standby serves: %+v", now)
			}
			r.wantAnswer("/", "here none 3")
			if n := r.begun(); n != 3 {
				t.Errorf("%d have begun", n)
			}
			r.letTimePass(3)
			if s := r.standby(r.group, 4); s.Failures != 0 {
				t.Errorf("with a standby again: %+v", s)
			}
		},
		"a restart that it asks for itself": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			r.signal(s, unix.SIGUSR2)
			r.ended(2, ends.ReasonRestart)
			if now := r.servedBy(3); !now.Prewarmed || now.Failures != 0 || now.Restarts != 2 || now.Cold != "" {
				t.Errorf("the standby serves: %+v", now)
			}
			r.wantAnswer("/", "here none 3")
		},
		"an end after which a client is waited for": func(t *testing.T, r *prewarmedRig) {
			r.spec.WaitAfterExit0 = true
			s := r.stood()
			r.signal(s, unix.SIGUSR2)
			r.ended(2, ends.ReasonRestart)
			r.ended(3, ends.ReasonRestart)
			r.await(Waiting)
		},
		"hung": func(t *testing.T, r *prewarmedRig) {
			r.queues.stalls = make(chan netaddr.Address)
			r.spec.Alive = signs.Settings{Queue: time.Minute, Restart: true, StopTimeout: time.Minute}
			r.stood()
			r.stall()
			r.ended(2, ends.ReasonHung)
			if now := r.servedBy(3); !now.Prewarmed || now.Failures != 1 {
				t.Errorf("the standby serves: %+v", now)
			}
		},
		"restart": func(t *testing.T, r *prewarmedRig) {
			r.stood()
			r.want(r.restart())
			if exit := r.ended(3, ends.ReasonRestart); !exit.Successor {
				t.Errorf("the standby ended: %+v", exit)
			}
			r.ended(2, ends.ReasonRestart)
			if now := r.servedBy(4); !now.Prewarmed || now.Restarts != 2 {
				t.Errorf("a fresh one serves: %+v", now)
			}
		},
		"a restart without waiting that fails, and one that waits": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			if err := os.Rename(r.folder, r.folder+"-away"); err != nil {
				t.Fatal(err)
			}
			if err := r.outcome(r.supervisor.Restart(true)); err == nil {
				t.Fatal("without its directory the next one starts")
			}
			r.ended(3, ends.ReasonRestart)
			if err := os.Rename(r.folder+"-away", r.folder); err != nil {
				t.Fatal(err)
			}
			r.write("stay", "")
			outcome := r.supervisor.Restart(false)
			r.beside(4, BesideParked)
			r.remove("stay")
			r.signal(s, unix.SIGTERM)
			if exit := r.ended(2, ends.ReasonRestart); exit.Code != 0 {
				t.Errorf("the one that finishes its work ended: %s", exit)
			}
			r.want(r.outcome(outcome))
			r.servedBy(4)
		},
		"edit": func(t *testing.T, r *prewarmedRig) {
			r.stood()
			spec := r.spec
			spec.Edition, spec.Environment = 2, append(spec.Environment, "PLACE=elsewhere")
			r.want(r.outcome(r.supervisor.Apply(spec, true)))
			r.ended(3, ends.ReasonConfig)
			r.ended(2, ends.ReasonConfig)
			r.wantAnswer("/", "elsewhere none 4")
		},
		"edit: a handover": func(t *testing.T, r *prewarmedRig) {
			r.stood()
			spec := r.spec
			spec.Edition, spec.Handover, spec.Prewarm = 2, true, false
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.ended(3, ends.ReasonConfig)
			s := r.standby(r.group, 4)
			if n := r.begun(); n != 3 || s.Successor.Modules != 0 {
				t.Errorf("%d have begun, and the standby is %+v", n, s.Successor)
			}
			spec.Edition, spec.Handover, spec.Prewarm = 3, false, true
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.ended(4, ends.ReasonConfig)
			if s := r.standby(r.group, 5); s.Successor.Modules == 0 {
				t.Errorf("the standby is %+v", s.Successor)
			}
		},
		"an update, and a crash": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			r.write("entry.mjs", prewarmedFiles["entry.mjs"]+"\n")
			killPID(t, s.PID)
			r.ended(2, ends.ReasonCrash)
			r.ended(3, ends.ReasonRestart)
			if s := r.await(BackingOff); s.Failures != 1 || !strings.Contains(s.Cold, "the program has changed meanwhile") || !strings.Contains(s.Problem, "generation 2 ended: killed by SIGKILL") {
				t.Errorf("after the crash: %+v", s)
			}
			r.want(r.restart())
			if now := r.servedBy(4); now.Prewarmed {
				t.Errorf("%+v", now)
			}
			r.learned()
			r.letTimePass(4)
			r.standby(r.group, 5)
		},
		"an update, and a restart that it asks for itself": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			r.write("place.mjs", prewarmedFiles["place.mjs"]+"\n")
			r.signal(s, unix.SIGUSR2)
			r.ended(2, ends.ReasonRestart)
			r.ended(3, ends.ReasonRestart)
			r.cold(4, "the program has changed meanwhile")
			if n := r.begun(); n != 3 {
				t.Errorf("%d have begun", n)
			}
		},
		"crash while it loads": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			r.letTimePass(2)
			killPID(t, r.beside(3, BesideBooting).PID)
			r.ended(2, ends.ReasonCrash)
			r.ended(3, ends.ReasonRestart)
			if s := r.await(BackingOff); s.Failures != 1 || !strings.Contains(s.Cold, "it had not loaded its modules") {
				t.Errorf("after the crash: %+v", s)
			}
		},
		"it loads when the processors are free": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("slow", "")
			r.letTimePass(2)
			r.beside(3, BesideBooting)
			content, err := os.ReadFile(filepath.Join(r.group, "generation-3", "cpu.weight"))
			if err == nil && strings.TrimSpace(string(content)) != "10" { // the kernel of the test may not divide them
				t.Errorf("it has a share of %s", content)
			}
		},
		"exit 78": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			r.write("exit-ahead", "78")
			killPID(t, s.PID)
			r.ended(2, ends.ReasonCrash)
			r.ended(3, ends.ReasonCrash)
			r.cold(4, "exit code 78")
		},
		"no list": func(t *testing.T, r *prewarmedRig) {
			// It has an hour to tell it; before, no standby is tried.
			r.options.SettleTime, r.spec.Backoff.Min, r.spec.Backoff.ResetAfter = time.Hour, time.Millisecond, time.Millisecond
			r.served()
			spec := r.spec
			spec.Edition = 2
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			if all := r.all(); all[len(all)-1].NoStandby != "" {
				t.Errorf("at once: %+v", all[len(all)-1])
			}
			r.letTimePass(1)
			s := r.awaitThat("without a standby", func(s Status) bool { return s.NoStandby != "" })
			if s.State != Ready || s.Failures != 0 || !strings.Contains(s.NoStandby, "no earlier start has told") {
				t.Errorf("without a list: %+v", s)
			}
		},
		"its modules fail": func(t *testing.T, r *prewarmedRig) {
			r.prewarmed()
			r.write("broken", "")
			for number := 3; number < 5; number++ {
				r.letTimePass(2)
				r.ended(number, ends.ReasonUnready)
				r.awaitThat("without a standby", func(s Status) bool { return s.Failures == number-2 && strings.Contains(s.NoStandby, "it is broken") })
			}
			r.letTimePass(2)
			r.awaitThat("no further one", func(s Status) bool { return strings.Contains(s.NoStandby, "two in a row") })
			r.wantAnswer("/", "here none 2")
		},
		"it is killed": func(t *testing.T, r *prewarmedRig) {
			killPID(t, r.stood().Successor.PID)
			r.ended(3, ends.ReasonCrash)
			s := r.awaitThat("without a standby", func(s Status) bool { return s.NoStandby != "" })
			if s.State != Ready || s.Failures != 1 || strings.Contains(s.NoStandby, "exclusive") {
				t.Errorf("without a standby: %+v", s)
			}
			r.letTimePass(2)
			r.standby(r.group, 4)
		},
		"memory has no room": func(t *testing.T, r *prewarmedRig) {
			var free atomic.Bool
			r.options.cramped = func(number int) string {
				if number != 2 {
					t.Errorf("generation %d is looked at", number)
				}
				if free.Load() {
					return ""
				}
				return "it is full"
			}
			r.prewarmed()
			r.letTimePass(2)
			if s := r.awaitThat("without a standby", func(s Status) bool { return s.NoStandby != "" }); s.NoStandby != "it is full" || s.Failures != 0 || s.Successor.Generation != 0 {
				t.Errorf("without room: %+v", s)
			}
			free.Store(true)
			r.letTimePass(2)
			if s := r.standby(r.group, 3); s.NoStandby != "" {
				t.Errorf("with room: %+v", s)
			}
		},
		"the launcher ends": func(t *testing.T, r *prewarmedRig) {
			s := r.stood()
			r.stop()
			r.awaitEnd()
			r.dead(s.PID, s.Successor.PID)
		},
		"it is not wanted any more": func(t *testing.T, r *prewarmedRig) {
			r.stood()
			spec := r.spec
			spec.Edition, spec.Standby, spec.Prewarm = 2, false, false
			r.want(r.outcome(r.supervisor.Apply(spec, false)))
			r.ended(3, ends.ReasonConfig)
			r.wantAnswer("/", "here none 2")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPrewarmedRig(t)
			r.group, r.spec.Standby = path, true
			c(t, r)
		})
		if left := groups(t, path); len(left) > 1 {
			t.Errorf("%s: left are %v", name, left)
		}
	}
}
