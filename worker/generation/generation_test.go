package generation

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/signs"
	"openclaw-gateway/worker/spawn"
	"openclaw-gateway/worker/tree"
)

// TestTable holds the table complete: each event has a meaning in each stage, or stands here with the reason why it has none.
func TestTable(t *testing.T) {
	const (
		before      = "nothing is ending that could end sooner"
		noTimer     = "the stage has no timer"
		supervisors = "it is the supervisor's"
		tooLate     = "the generation is on its way out"
		known       = "the generation serves already"
		notReady    = "it is awaited while the generation serves"
		past        = "the generation has passed the gate"
		atGate      = "nothing can be asked of a worker that has no sockets yet"
		nothing     = "nothing is left of the generation"
	)
	all := map[Kind]string{}
	for event := ClientWaits; event <= Ended; event++ {
		all[event] = nothing
	}
	reasons := map[Stage]map[Kind]string{
		Starting: {
			ClientWaits: supervisors, RestartAsked: supervisors, HurryAsked: before, Idled: notReady, Hangs: notReady, Relieved: notReady, Blinded: notReady,
			Reloads: notReady, LetGo: supervisors,
		},
		Parked: {
			ClientWaits: supervisors, RestartAsked: supervisors, HurryAsked: before, TimeUp: noTimer, Idled: notReady, Hangs: notReady, Relieved: notReady, Blinded: notReady,
			Probed:   atGate,
			Extended: noTimer, Stated: atGate, Reloads: notReady, LetGo: supervisors, Loaded: atGate, Staled: atGate,
		},
		Ready: {
			ClientWaits: supervisors, RestartAsked: supervisors, HurryAsked: before, Probed: known,
			LetIn: past, LetGo: supervisors, Extended: "no time is set for it", Stated: "its state says it", Loaded: past,
		},
		Stopping: {
			ClientWaits: supervisors, RestartAsked: supervisors, BecameReady: tooLate, CannotServe: tooLate, Idled: tooLate, Hangs: tooLate, Relieved: tooLate, Blinded: tooLate,
			Probed: tooLate, Arrived: tooLate, LetIn: tooLate, LetGo: supervisors,
			Stated: tooLate, Reloads: tooLate, Leaves: tooLate, Loaded: tooLate, Staled: tooLate, Compared: tooLate,
		},
		gone: all,
	}
	for event := ClientWaits; event <= Ended; event++ {
		for state := Starting; state <= gone; state++ {
			switch entry, reason := generationTable[state][event] != nil, reasons[state][event]; {
			case entry && reason != "":
				t.Errorf("stage %d: event %d has an entry, although %s", state, event, reason)
			case !entry && reason == "":
				t.Errorf("stage %d: event %d has no entry", state, event)
			}
		}
	}
}

// queues is a holder whose sockets are listened on so often.
type queues struct {
	Queues
	absent  []netaddr.Address // what this machine is said not to have
	listens int
}

func (*queues) Restore() error { return nil }

func (q *queues) Listen() error {
	q.listens++
	return nil
}

func (q *queues) Absent(address netaddr.Address) bool { return slices.Contains(q.absent, address) }

// gated is a handoff at whose gate a worker waits.
type gated struct {
	handoff.Handoff
	passed   []netaddr.Address
	released int
}

func (*gated) Kind() handoff.Kind        { return handoff.Preload }
func (h *gated) Pass(at netaddr.Address) { h.passed = append(h.passed, at) }
func (h *gated) Release()                { h.released++ }

// TestParked: a worker that waits at the gate is not late, and has the whole of its time when it is let in. What its elder has
// besides the sockets it has to wait for, at each of its addresses and until the elder has gone; what the elder does not have it gets.
func TestParked(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	held, other, third := netaddr.MustParse("127.0.0.1:1"), netaddr.MustParse("127.0.0.1:2"), netaddr.MustParse("127.0.0.1:3")
	spec := Spec{ReadyTimeout: time.Hour, Sockets: []handoff.Socket{{Address: held}}, Queues: new(queues)}
	elder := New(1, spec, Surroundings{Options: Options{Log: log}}, nil)
	elder.Handoff, elder.Stage, elder.Listening[held], elder.besides = new(gated), Ready, true, []netaddr.Address{other}
	gate, told := new(gated), []Event{}
	g := New(2, spec, Surroundings{Options: Options{Log: log}}, func(e Event) { told = append(told, e) })
	g.Beside(elder)
	g.Handoff, g.Process = gate, &os.Process{}
	g.enter(Starting, time.Hour)
	arrives := func(at netaddr.Address) { g.Handle(Event{Kind: Arrived, Report: handoff.Report{Address: at}}) }
	want := func(when string, stage Stage, passed int, limited bool) {
		t.Helper()
		if g.Stage != stage || len(gate.passed) != passed || g.Until.IsZero() == limited {
			t.Errorf("%s: stage %d, passed %v, until %s", when, g.Stage, gate.passed, g.Until)
		}
	}
	g.tree = planted(g.Options.Log)
	arrives(third)
	want("at an address that nobody has", Starting, 1, true)
	arrives(other)
	want("at one that the elder has", Parked, 1, false)
	if len(told) != 1 || told[0].Kind != Arrived || !g.WaitsForMore() {
		t.Errorf("told %v, waits for more: %v", told, g.WaitsForMore())
	}
	elder.besides = nil
	g.GoOn()
	want("when the elder has closed that", Starting, 2, true)
	elder.besides = []netaddr.Address{other}
	arrives(held)
	want("at the socket", Parked, 2, false)
	g.Handle(Event{Kind: BecameReady}) // said too early
	g.Handle(Event{Kind: LetIn})
	if g.Stage != Ready {
		t.Errorf("let in, and ready as it has said: stage %d", g.Stage)
	}
	arrives(other)
	want("at the elder's, in ready", Ready, 3, false)
	g.Outlive()
	if len(gate.passed) != 4 || gate.released != 1 {
		t.Errorf("the elder has gone: passed %v, released %d times", gate.passed, gate.released)
	}
}

// TestParkedStandby: one that is frozen at an address that its elder has besides the sockets goes on when it gets those, and not when
// the elder has closed that alone: its time would run while it is frozen.
func TestParkedStandby(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	held, other := netaddr.MustParse("127.0.0.1:1"), netaddr.MustParse("127.0.0.1:2")
	spec := Spec{ReadyTimeout: time.Hour, Sockets: []handoff.Socket{{Address: held}}, Queues: new(queues)}
	elder := New(1, spec, Surroundings{Options: Options{Log: log}}, nil)
	elder.Handoff, elder.Stage, elder.Listening[held], elder.besides = new(gated), Stopping, true, []netaddr.Address{other}
	gate := new(gated)
	g := New(2, spec, Surroundings{Options: Options{Log: log}}, func(Event) {})
	g.Beside(elder)
	g.Handoff, g.Process, g.Standby, g.tree = gate, &os.Process{}, true, planted(log)
	g.enter(Starting, time.Hour)
	g.Handle(Event{Kind: Arrived, Report: handoff.Report{Address: other}})
	elder.besides = nil
	g.GoOn()
	if g.Stage != Parked || len(gate.passed) != 0 || !g.Until.IsZero() || g.WaitsForMore() {
		t.Errorf("when the elder has closed that: stage %d, passed %v, until %s", g.Stage, gate.passed, g.Until)
	}
	g.Handle(Event{Kind: LetIn})
	if g.Stage != Starting || len(gate.passed) != 1 || g.Until.IsZero() {
		t.Errorf("let in: stage %d, passed %v, until %s", g.Stage, gate.passed, g.Until)
	}
}

// TestListensAgain plays a worker that closes its listeners, and listens again or not.
func TestListensAgain(t *testing.T) {
	t.Parallel()
	one, two := netaddr.MustParse("127.0.0.1:1"), netaddr.MustParse("[::1]:1")
	begin := func(stage Stage) (*Generation, func(handoff.Event, netaddr.Address)) {
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		around := Surroundings{Options: Options{Log: slog.New(slog.DiscardHandler), RelistenTimeout: time.Hour}}
		g := New(1, Spec{Queues: new(queues), Sockets: []handoff.Socket{{Address: one}, {Address: two}}}, around, func(Event) {})
		g.Handoff, g.Process, g.Stage = reporting{}, self, stage
		return g, func(what handoff.Event, address netaddr.Address) {
			g.Handle(Event{Kind: Reported, Report: handoff.Report{Event: what, Address: address, Held: true}})
		}
	}

	g, note := begin(Ready)
	note(handoff.Listening, one)
	note(handoff.Listening, two)
	if g.relisten != nil {
		t.Error("a timer while it listens")
	}
	note(handoff.Closed, one)
	timer := g.relisten
	if timer == nil {
		t.Fatal("no timer after it has closed a listener")
	}
	note(handoff.Closed, two)
	note(handoff.Listening, one)
	if g.relisten != timer {
		t.Error("another timer, or none, while one of two listeners is missing")
	}
	before := g.Spec.Queues.(*queues).listens
	note(handoff.Listening, two)
	if now := g.Spec.Queues.(*queues).listens; now != before+1 {
		t.Errorf("sockets given their backlog %d times when it listened again, want once", now-before)
	}
	if g.relisten != nil || timer.Stop() {
		t.Error("the timer runs on after it listens again")
	}
	note(handoff.Closed, two)
	if g.relisten == nil || g.relisten == timer {
		t.Error("no timer when it closes a listener again")
	}

	// It listened, and has closed a listener before it said that it is ready.
	g, note = begin(Starting)
	note(handoff.Listening, one)
	note(handoff.Listening, two)
	note(handoff.Closed, two)
	if g.relisten != nil {
		t.Error("a timer while it starts, which has a limit of its own")
	}
	g.Handle(Event{Kind: BecameReady})
	if g.relisten == nil {
		t.Error("no timer for what it closed before it was ready")
	}

	// It listens again in the moment in which its time is up.
	g, note = begin(Ready)
	g.Process, g.Events, g.Options.RelistenTimeout = &os.Process{}, make(chan Event), time.Nanosecond
	note(handoff.Listening, one)
	note(handoff.Closed, one)
	late := <-g.Events
	note(handoff.Listening, one)
	g.Handle(late)
	if g.Stage != Ready {
		t.Error("it is stopped although it listens again")
	}
}

// TestManyElsewhere: a worker that listens under a new name for each job is not remembered without bounds.
func TestManyElsewhere(t *testing.T) {
	t.Parallel()
	g := New(1, Spec{Queues: new(queues), Sockets: []handoff.Socket{{Address: netaddr.MustParse("unix:/run/held")}}},
		Surroundings{Options: Options{Log: slog.New(slog.DiscardHandler)}}, func(Event) {})
	g.Process, g.Stage = &os.Process{}, Ready
	for i := range 1000 {
		g.Handle(Event{Kind: Reported, Report: handoff.Report{Event: handoff.Listening, Address: netaddr.MustParse(fmt.Sprintf("unix:/run/job-%d", i))}})
	}
	if len(g.elsewhere) != mostNoted || len(g.besides) != mostNoted {
		t.Errorf("%d and %d addresses are known, want %d", len(g.elsewhere), len(g.besides), mostNoted)
	}
}

// TestUntold: where a worker has the sockets by inheriting them nothing is said of where it does not listen, although something else is
// reported of it.
func TestUntold(t *testing.T) {
	t.Parallel()
	held := netaddr.MustParse("127.0.0.1:80")
	spec := Spec{Sockets: []handoff.Socket{{Address: held}}, Queues: &queues{absent: []netaddr.Address{held}}}
	inherits, err := handoff.New(handoff.ListenFDs, handoff.Nothing, handoff.NoGate, nil, nil, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer inherits.Close()
	for _, test := range []struct {
		handoff handoff.Handoff
		want    bool
	}{{inherits, false}, {reporting{}, true}} {
		g := New(1, spec, Surroundings{Options: Options{Log: slog.New(slog.DiscardHandler)}}, nil)
		g.Handoff, g.Process = test.handoff, new(os.Process)
		if err := g.remember(handoff.Report{Event: handoff.Unprivileged}); err != nil {
			t.Fatal(err)
		}
		if g.noteUnserved(); (g.Unserved != nil) != test.want {
			t.Errorf("%s: %v", test.handoff.Kind(), g.Unserved)
		}
	}
}

// reporting is a handoff that tells what the worker listens on.
type reporting struct{ handoff.Handoff }

func (reporting) Reports() *handoff.Reports { return new(handoff.Reports) }

func (reporting) Kind() handoff.Kind { return handoff.Preload }

func TestExplain(t *testing.T) {
	t.Parallel()
	v4, v6 := netaddr.MustParse("127.0.0.1:80"), netaddr.MustParse("[::1]:80")
	sockets := []handoff.Socket{{Address: v4}, {Address: v6}}
	other := netaddr.MustParse("127.0.0.1:81")
	for name, test := range map[string]struct {
		generation Generation
		listens    []netaddr.Address
		want       string
	}{
		"one of two": {
			Generation{Handoff: reporting{}, Listening: map[netaddr.Address]bool{v4: true}},
			nil,
			"it listens on 127.0.0.1:80 only: make it listen on [::1]:80 too, or take that out of listen",
		},
		"one of two, and another port": {
			Generation{Handoff: reporting{}, Listening: map[netaddr.Address]bool{v4: true}},
			[]netaddr.Address{other},
			"it listens on 127.0.0.1:80 only: make it listen on [::1]:80 too, or take that out of listen",
		},
		"none": {Generation{Handoff: reporting{}}, nil, "it has not listened on 127.0.0.1:80 and [::1]:80"},
		"none, and something of it cannot be looked into": {
			Generation{Handoff: reporting{}, obstacle: "cannot look into process 5 (ssh-agent)"},
			nil,
			"cannot look into process 5 (ssh-agent); if it is not that, it has not listened on 127.0.0.1:80 and [::1]:80",
		},
		"another port of all addresses": {
			Generation{Handoff: reporting{}, elsewhere: []netaddr.Address{netaddr.MustParse("[::]:81"), netaddr.MustParse("0.0.0.0:82")}},
			nil,
			`it listens on [::]:81 and 0.0.0.0:82, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to "*:81" and 0.0.0.0:82`,
		},
		"a clash with all addresses": {
			Generation{Handoff: reporting{}, clash: netaddr.MustParse("[::]:80")},
			nil,
			`it wanted to listen on [::]:80, which overlaps 127.0.0.1:80 and [::1]:80 that the launcher holds: ` +
				`make the worker listen on 127.0.0.1:80 and [::1]:80, or set listen to "*:80"`,
		},
		"a clash with all of IPv6 alone": {
			Generation{Handoff: reporting{}, clash: netaddr.MustParse("[::]:80"), clashV6Only: true},
			nil,
			`it wanted to listen on [::]:80, which overlaps 127.0.0.1:80 and [::1]:80 that the launcher holds: ` +
				`make the worker listen on 127.0.0.1:80 and [::1]:80, or set listen to ["0.0.0.0:80", "[::]:80"]`,
		},
		"another port of both families": {
			Generation{Handoff: reporting{}, elsewhere: []netaddr.Address{netaddr.MustParse("[::]:81"), netaddr.MustParse("0.0.0.0:81")}},
			nil,
			`it listens on [::]:81 and 0.0.0.0:81, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to "[::]:81" and 0.0.0.0:81`,
		},
		"one socket for two": {
			Generation{Handoff: reporting{}, Listening: map[netaddr.Address]bool{netaddr.MustParse("[::]:80"): true}, both: netaddr.MustParse("[::]:80")},
			nil,
			`it listens with one socket, [::]:80, for the clients of both families, and those of 0.0.0.0:80 would wait for ever: set listen to "*:80"`,
		},
		"another port, told twice": {
			Generation{Handoff: reporting{}, elsewhere: []netaddr.Address{other}},
			[]netaddr.Address{other},
			"it listens on 127.0.0.1:81, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to 127.0.0.1:81",
		},
		"a port of the kernel's choice": {
			Generation{Handoff: reporting{}},
			[]netaddr.Address{netaddr.MustParse("0.0.0.0:40000")},
			"it listens on 0.0.0.0:40000, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command",
		},
		"the same, and another one": {
			Generation{Handoff: reporting{}},
			[]netaddr.Address{netaddr.MustParse("0.0.0.0:40000"), other},
			"it listens on 0.0.0.0:40000 and 127.0.0.1:81, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to 127.0.0.1:81",
		},
		"such a port by the worker's": {
			Generation{Handoff: reporting{}, Spec: Spec{Environment: []string{"PORT=40000"}}},
			[]netaddr.Address{netaddr.MustParse("0.0.0.0:40000")},
			"it listens on 0.0.0.0:40000, not on 127.0.0.1:80 and [::1]:80: set its port in worker.command, or set listen to 0.0.0.0:40000",
		},
		"all, and the probe": {
			Generation{Handoff: reporting{}, Listening: map[netaddr.Address]bool{v4: true, v6: true}, Probed: "GET / was answered with 500"},
			nil,
			"GET / was answered with 500",
		},
		"all, and no READY=1": {
			Generation{Handoff: reporting{}, Listening: map[netaddr.Address]bool{v4: true, v6: true}, Spec: Spec{Probe: ProbeNotify}},
			nil,
			"it has not said READY=1 to its NOTIFY_SOCKET, as ready.probe asks of it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := test.generation
			g.Spec.Sockets = sockets
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
		{"*:80", "0.0.0.0:80", true},
		{"*:80", "[::]:80", false},
		{"*:80", "[::]:80 alone", true},
		{"[::]:80", "[::]:80 alone", false},
		{"[::1]:80", "[::]:80 alone", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"127.0.0.1:80", "[::]:80", true},
		{"0.0.0.0:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:80", false},
		{"127.0.0.1:80", "[::1]:80", false},
		{"127.0.0.1:80", "192.0.2.1:80", false},
		{"127.0.0.1:80", "0.0.0.0:81", false},
		{"[::]:80", "0.0.0.0:80", true},
	} {
		held, dual := strings.CutPrefix(test.held, "*")
		if dual {
			held = "[::]" + held
		}
		wanted, alone := strings.CutSuffix(test.wanted, " alone")
		g := Generation{Spec: Spec{Sockets: []handoff.Socket{{Address: netaddr.MustParse(held), DualStack: dual}}}}
		if got := g.clashes(handoff.Report{Address: netaddr.MustParse(wanted), V6Only: alone}); got != test.want {
			t.Errorf("%s held, %s wanted: %t", test.held, test.wanted, got)
		}
	}
}

// TestKilledForMemory: that the kernel has no memory for a worker is told from a kill by somebody. The count of the kernel is
// prepared: the one of the test may have no memory controller.
func TestKilledForMemory(t *testing.T) {
	t.Parallel()
	for kills, want := range map[int]ends.Reason{0: ends.ReasonCrash, 1: ends.ReasonOOM} {
		var exit ends.Exit
		g := New(1, Spec{Command: []string{"x"}}, Surroundings{}, func(e Event) { exit = e.Exit })
		g.Handoff, g.tree = quiet{}, &tree.Tree{OOMKills: kills}
		g.enter(Ready, 0)
		g.end(Event{Exit: ends.Exit{Code: -1, Signal: unix.SIGKILL}})
		if exit.Reason != want || strings.Contains(exit.Detail, "want of memory") != (want == ends.ReasonOOM) {
			t.Errorf("%d kills: %s, %q", kills, exit.Reason, exit.Detail)
		}
	}
}

type quiet struct{ handoff.Handoff }

// passing is a handoff that is told when the worker serves on what it was passed.
type passing struct {
	quiet
	served chan time.Time
}

func (p passing) Served() { p.served <- time.Now() }

// TestServed: who has taken a request from each queue serves on what it was passed, or has bound it already. READY=1 may come before the
// bind. One that tells where it listens needs no such word.
func TestServed(t *testing.T) {
	t.Parallel()
	const later = 20 * time.Millisecond
	begin := func(handoff handoff.Handoff, e Event) time.Time {
		around := Surroundings{Options: Options{Log: slog.New(slog.DiscardHandler), RelistenTimeout: later}}
		g := New(1, Spec{Queues: new(queues)}, around, func(Event) {})
		g.Handoff, g.Process = handoff, new(os.Process)
		g.enter(Starting, 0)
		now := time.Now()
		g.Handle(e)
		return now
	}
	p := passing{served: make(chan time.Time, 1)}
	if begin(p, Event{Kind: BecameReady, answered: true}); len(p.served) != 1 {
		t.Fatal("one that has answered is not said to serve")
	}
	<-p.served
	if ready := begin(p, Event{Kind: BecameReady}); (<-p.served).Sub(ready) < later {
		t.Error("one that has said READY=1 is said to serve at once")
	}
	begin(reporting{}, Event{Kind: BecameReady, adopted: true}) // or it would panic
}

func (quiet) Shim() *handoff.Order { return nil }

func (quiet) Kind() handoff.Kind { return handoff.ListenFDs }

// TestHandoverToAnother: after an edit by which Node.js starts another one to serve, as npm does, which nobody would hold, the
// next generation is not started beside the one that serves.
func TestHandoverToAnother(t *testing.T) {
	t.Parallel()
	npm := filepath.Join(t.TempDir(), "npm")
	if err := os.WriteFile(npm, []byte("#!/usr/bin/env node\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	elder := New(1, Spec{Handover: true}, Surroundings{}, nil)
	elder.Handoff = reporting{}
	held := sockets.Hold(t, "127.0.0.1")[0]
	spec := Spec{Handover: true, Command: []string{npm, "start"}, Handoff: handoff.Auto, Sockets: []handoff.Socket{{File: held.File, Address: held.Address}}}
	g := New(2, spec, Surroundings{}, nil)
	g.Beside(elder)
	b := &birth{Generation: g, place: t.TempDir(), program: spawn.Program{Path: npm}}
	if err := b.prepareHandoff(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Handoff.Close() })
	if g.Gated || !strings.Contains(g.Apart, "is not what listens") || !g.filter() {
		t.Errorf("held: %t; apart: %q; intercept: %t", g.Gated, g.Apart, g.filter())
	}
}

// TestHungLeaves: who hangs, and is stopped, hangs until it has gone.
func TestHungLeaves(t *testing.T) {
	t.Parallel()
	g := New(1, Spec{Queues: new(queues)}, Surroundings{}, nil)
	g.Stage, g.alive, g.Hung = Ready, signs.Settings{Queue: time.Hour}, []*signs.Hung{{By: signs.ByQueue}}
	if g.leave(); g.Stage != Stopping || len(g.Hung) != 1 {
		t.Errorf("stage %d, hung %v", g.Stage, g.Hung)
	}
}

// planted is the tree of a generation without processes.
func planted(log *slog.Logger) *tree.Tree { return &tree.Tree{Trees: tree.New(log, nil, "")} }

// TestEnding: a generation whose main process has ended by itself ends for what that has said.
func TestEnding(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		generation Generation
		reason     ends.Reason
		code       int
	}{
		"it serves":                       {Generation{ReadyAfter: 1}, "", 0},
		"told to, and others live":        {Generation{ReadyAfter: 1, headless: true, code: 5, Why: ends.ReasonConfig}, ends.ReasonConfig, 0},
		"exit code 0":                     {Generation{ReadyAfter: 1, headless: true}, ends.ReasonRestart, 0},
		"exit code 0 before it was ready": {Generation{headless: true}, ends.ReasonCrash, 0},
		"a fatal exit code":               {Generation{ReadyAfter: 1, headless: true, code: 78}, ends.ReasonCrash, 78},
		"a signal":                        {Generation{ReadyAfter: 1, headless: true, code: -1}, ends.ReasonCrash, -1},
	} {
		if reason, code := test.generation.Ending(); reason != test.reason || code != test.code {
			t.Errorf("%s: %q, %d; want %q, %d", name, reason, code, test.reason, test.code)
		}
	}
}
