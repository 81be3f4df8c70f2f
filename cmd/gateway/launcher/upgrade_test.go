package launcher

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/launcher/upgrade"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/signs"
	"openclaw-gateway/worker/spawn"
)

// TestBequeath: when a generation did not serve is known to the next program, and what is told waits for no edit.
func TestBequeath(t *testing.T) {
	l, c, _ := rigControl(t)
	l.control = c
	status := worker.Status{State: worker.Ready, Generation: 3, PID: 7, Started: time.Now(), ReadyAfter: time.Second}
	for range 2 {
		l.observe(status)
		hung := status
		hung.Hung = &signs.Hung{Since: time.Now(), By: signs.ByQueue}
		l.observe(hung)
	}
	l.observe(status)
	want := l.History().Generations[0].Hung
	for range 3 { // one program after the other
		left, err := l.bequeath(worker.Saved{}, new(passed.Files))
		if err != nil {
			t.Fatal(err)
		}
		l, c, _ = rigControl(t)
		l.control = c
		l.reporter.history.Resume(left.History)
		l.observe(status)
		if lives := l.History().Generations; len(lives) != 1 || len(lives[0].Hung) != 2 || !lives[0].Hung[1].Until.Equal(*want[1].Until) {
			t.Errorf("it has %+v, want %+v", lives, want)
		}
	}
	l.editions.mu.Lock() // as whoever applies an edit, and waits for the supervisor, which calls bequeath
	if _, err := l.bequeath(worker.Saved{}, new(passed.Files)); !errors.Is(err, errEdited) {
		t.Errorf("while an edit is applied: %v", err)
	}
	l.editions.mu.Unlock()
}

// TestStopBeforeExecve: a stop that has come, and that nobody has taken yet, does not end with the program to which it came, and no more
// one that is on its way to whoever takes it.
func TestStopBeforeExecve(t *testing.T) {
	l, c, _ := rigControl(t)
	l.control, l.spawner = c, spawn.New(t.Context())
	program, err := upgrade.Installed()
	if err != nil {
		t.Fatal(err)
	}
	program.Path = t.TempDir() + "/none" // which cannot be executed
	become := func() error { return l.become(program, worker.Saved{}, new(passed.Files)) }
	runtime.LockOSThread() // so that it has come when the call returns
	defer runtime.UnlockOSThread()
	for i := range 200 {
		var others chan os.Signal
		l.stops, others = catchSignals()
		signal.Stop(others)
		go l.stops.handle(func(string) {}, func() {})
		if err := become(); err == nil || errors.Is(err, worker.ErrStopping) {
			t.Fatalf("without a stop: %v", err)
		}
		if err := unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		err := become()
		signal.Stop(l.stops.signals)
		if !errors.Is(err, worker.ErrStopping) {
			t.Fatalf("with a stop, after %d: %v", i, err)
		}
	}
}

// TestResumeWatches: edits of the environment file are noticed by the next program too, also where it cannot use the configuration as it
// is by then.
func TestResumeWatches(t *testing.T) {
	_, e, tried, folder, _ := rigLauncher(t)
	all, err := e.bequeath()
	if err != nil {
		t.Fatal(err)
	}
	next := &editions{assembler: e.assembler, log: e.log, level: e.level, report: e.report}
	next.environment = environmentWatch{log: e.log, edited: func() {}, changed: func() {}}
	t.Cleanup(next.end)
	if err := next.resume(all, func(edition, *edition, int) applier { return tried }); err != nil {
		t.Fatal(err)
	}
	if got := next.environment.path; got != folder+"/environment" {
		t.Errorf("edits of %q are noticed", got)
	}
}
