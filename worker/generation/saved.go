package generation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/leader"
	"openclaw-gateway/worker/notify"
	"openclaw-gateway/worker/proctree"
)

// Saved is a generation that serves, for the program that takes this one's place in the process.
type Saved struct {
	Number     int           `json:"number"`
	PID        int           `json:"pid"`
	Start      uint64        `json:"start"` // of the process, which tells it from another one with its pid
	Since      time.Time     `json:"since"`
	Started    time.Time     `json:"started"`
	ReadyAfter time.Duration `json:"ready_after"`
	Stall      time.Duration `json:"stall"`
	Served     bool          `json:"served"`
	Says       string        `json:"says"`

	Loaded    bool              `json:"loaded"`
	Listening []netaddr.Address `json:"listening"`
	Elsewhere []netaddr.Address `json:"elsewhere"`
	Besides   []netaddr.Address `json:"besides"`
	Both      netaddr.Address   `json:"both,omitzero"`
	Absent    []netaddr.Address `json:"absent"`
	Warning   string            `json:"warning"`
	OpenClaw  handoff.OpenClaw  `json:"openclaw"`
	Cache     string            `json:"cache"`
	Part      string            `json:"part"`
	Cached    bool              `json:"cached"`
	Uncached  string            `json:"uncached"`
	Obstacle  string            `json:"obstacle"`

	Binds      bool `json:"binds"`
	Bound      bool `json:"bound"`
	Unfiltered bool `json:"unfiltered"`
	Deprived   bool `json:"deprived"`

	Released  time.Time         `json:"released"`
	GateAfter time.Duration     `json:"gate_after"`
	Apart     string            `json:"apart"`
	Ahead     bool              `json:"ahead"` // of what a life had loaded ahead nothing but that is told any more
	Own       []netaddr.Address `json:"own"`   // from where the launcher's own requests came

	Handoff handoff.Saved `json:"handoff"`
	Notify  notify.Saved  `json:"notify"`
}

// Unsettled says why the generation cannot be passed on; "" where it can.
func (g *Generation) Unsettled() string {
	switch {
	case g.Stage != Ready:
		return "is not ready"
	case g.Elder != nil || len(g.waits) > 0:
		return "waits for what an earlier one has"
	case len(g.closed) > 0:
		return "has closed a listener"
	case len(g.Hung) > 0:
		return "hangs"
	case g.compares():
		return "is being compared with what was loaded ahead"
	}
	return ""
}

// Suspend returns when all that the worker has said is told and nothing more is taken in, until resume is called. It needs somebody who
// takes the events meanwhile.
func (g *Generation) Suspend(ctx context.Context) (resume func(), err error) {
	select {
	case <-g.Executed: // of which no event tells: a worker can be ready before it is seen here
	case <-ctx.Done():
		return nil, fmt.Errorf("generation %d has not been executed", g.Number)
	}
	again, err := g.notify.Suspend(ctx)
	if err != nil {
		return nil, err
	}
	more, err := g.Handoff.Suspend(ctx)
	if err != nil {
		again()
		return nil, err
	}
	return func() {
		more()
		again()
	}, nil
}

// Save passes on a generation that stands still. From then on its end is not followed, until release is called.
func (g *Generation) Save(files *passed.Files) (saved Saved, release func(), err error) {
	if why := g.Unsettled(); why != "" {
		return saved, nil, fmt.Errorf("generation %d %s", g.Number, why)
	}
	if release, err = g.leader.Hold(); err != nil {
		return saved, nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	process, err := proctree.Find(g.Process.Pid)
	if err != nil {
		return saved, nil, err
	}
	saved = Saved{
		Number: g.Number, PID: process.PID, Start: process.Start, Since: g.Since, Started: g.Started, ReadyAfter: g.ReadyAfter, Stall: g.Stall,
		Served: g.Served, Says: g.Says,
		Loaded: g.loaded, Listening: slices.Collect(maps.Keys(g.Listening)), Elsewhere: g.elsewhere, Besides: g.besides, Both: g.both, Warning: g.Warning,
		OpenClaw: g.OpenClaw, Cache: g.Cache, Part: g.Part, Cached: g.Cached, Uncached: g.Uncached, Obstacle: g.obstacle,
		Binds: g.Binds, Bound: g.Bound, Unfiltered: g.unfiltered, Deprived: g.Deprived,
		Released: g.Released, GateAfter: g.GateAfter, Apart: g.Apart, Ahead: g.Ahead, Own: g.own.From(),
	}
	for address, absent := range g.absent {
		if absent {
			saved.Absent = append(saved.Absent, address)
		}
	}
	saved.Handoff, err = g.Handoff.Save(files)
	if err == nil {
		saved.Notify, err = g.notify.Save(files)
	}
	return saved, release, err
}

// Resume takes up a generation that was passed on. What the worker does from then on comes as events, its end perhaps.
func Resume(saved Saved, spec Spec, around Surroundings, tell func(Event)) (*Generation, error) {
	g := New(saved.Number, spec, around, tell)
	g.Stage, g.Since, g.Started, g.ReadyAfter, g.Served, g.Says = Ready, saved.Since, saved.Started, saved.ReadyAfter, saved.Served, saved.Says
	g.loaded, g.elsewhere, g.besides, g.both, g.Warning = saved.Loaded, saved.Elsewhere, saved.Besides, saved.Both, saved.Warning
	g.OpenClaw, g.Cache, g.Part, g.Cached, g.Uncached, g.obstacle = saved.OpenClaw, saved.Cache, saved.Part, saved.Cached, saved.Uncached, saved.Obstacle
	g.Binds, g.Bound, g.unfiltered, g.Deprived = saved.Binds, saved.Bound, saved.Unfiltered, saved.Deprived
	g.Released, g.GateAfter, g.Apart = saved.Released, saved.GateAfter, saved.Apart
	g.Ahead, g.compared, g.Stall = saved.Ahead, true, saved.Stall
	for _, address := range saved.Listening {
		g.Listening[address] = true
	}
	for _, address := range saved.Absent {
		g.absent[address] = true
	}
	g.own.Know(saved.Own)
	close(g.adopted)
	var err error
	// The handle comes before the look: what is found out is of the process that it is for.
	if g.Process, err = os.FindProcess(saved.PID); err != nil {
		return nil, err
	}
	if there, err := proctree.Find(saved.PID); err != nil || there.Start != saved.Start {
		return nil, errors.Join(fmt.Errorf("process %d is none of generation %d", saved.PID, saved.Number), err)
	}
	if g.tree, err = around.Trees.Generation(saved.Number); err != nil {
		return nil, err
	}
	g.tree.Begun()
	if g.Handoff, err = handoff.Resume(saved.Handoff, spec.Sockets, g.tree.Processes); err != nil {
		return nil, err
	}
	if g.notify, err = notify.Resume(saved.Notify); err != nil {
		return nil, err
	}
	main, err := leader.Resume(g.Process, around.Trees.Waited)
	if err != nil {
		return nil, err
	}
	g.follow(main, func(context.Context) {}, func() error { return nil })
	g.noteUnserved()
	g.noteServed(false)
	return g, nil
}
