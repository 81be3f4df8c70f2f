package worker

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"openclaw-gateway/passed"
)

var errAsWished = errors.New("as was wished")

// heldStill has everything stand still for a moment, and returns what there was.
func heldStill(t *testing.T, r *rig) Saved {
	t.Helper()
	var got Saved
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	err := r.supervisor.Hold(ctx, true, func(saved Saved, files *passed.Files) error {
		got = saved
		undo, err := files.Open()
		if err != nil {
			return err
		}
		undo()
		return errAsWished
	})
	if !errors.Is(err, errAsWished) {
		t.Fatalf("%v", err)
	}
	return got
}

// TestHold: what there is can be told, and everything goes on afterwards.
func TestHold(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.run()
	ready := r.await(Ready)
	for range 3 {
		saved := heldStill(t, r)
		if s := saved.Serving; s == nil || s.Number != 1 || s.PID != ready.PID || s.Start == 0 || s.Handoff.Kind != "listen-fds" || s.ReadyAfter != ready.ReadyAfter || saved.Number != 1 {
			t.Fatalf("it has %+v", saved)
		}
		text, err := json.Marshal(saved)
		if err != nil {
			t.Fatal(err)
		}
		var again Saved
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatal(err)
		}
		back, err := json.Marshal(again)
		if err != nil || !reflect.DeepEqual(text, back) {
			t.Errorf("it reads back as\n%s\nand was\n%s (%v)", back, text, err)
		}
	}
	if err := r.outcome(r.supervisor.Restart(false)); err != nil {
		t.Fatal(err)
	}
	if saved := heldStill(t, r); saved.Serving.Number != 2 || saved.Last == nil || saved.Last.Generation != 1 {
		t.Errorf("after a restart it has %+v", saved)
	}
}

// TestHoldExecuted: a worker can be ready before it has been noticed that it was executed, and that comes without an event.
func TestHoldExecuted(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	executed := make(chan struct{})
	r.options.Observe = func(s Status) {
		if s.State == Ready {
			<-r.supervisor.serving.Executed
			r.supervisor.serving.Executed = executed
		}
		r.observe(s)
	}
	r.run()
	r.await(Ready)
	held := func(Saved, *passed.Files) error { return errAsWished }
	first := &hold{ctx: t.Context(), alone: true, f: held, reply: make(chan error, 1)}
	r.supervisor.holds <- first
	if err := r.supervisor.Hold(t.Context(), true, held); err == nil || errors.Is(err, errAsWished) { // the first is looked at before
		t.Fatalf("a second: %v", err)
	}
	close(executed)
	r.want(r.outcome(first.reply), errAsWished.Error())
}

// TestHoldNot: who does not serve, and does not come to it, is not passed on, and it is said why.
func TestHoldNot(t *testing.T) {
	t.Parallel()
	never := func(Saved, *passed.Files) error { return errAsWished }
	r := newRig(t, []string{"/bin/false"})
	r.run()
	r.await(BackingOff)
	if err := r.supervisor.Hold(t.Context(), true, never); err == nil || !strings.Contains(err.Error(), "does not serve: generation 1 ended") {
		t.Errorf("in backoff: %v", err)
	}
	r = newRig(t, []string{"sleep", "1000"})
	r.run()
	r.await(Starting)
	tired, cancel := context.WithCancel(t.Context())
	cancel()
	err := context.Canceled
	for errors.Is(err, context.Canceled) { // until the supervisor has heard of it
		err = r.supervisor.Hold(tired, true, never)
	}
	if err == nil || !strings.Contains(err.Error(), "generation 1 is starting") {
		t.Errorf("while it starts: %v", err)
	}
	r.stop()
	r.awaitEnd()
	if err := r.supervisor.Hold(t.Context(), true, never); !errors.Is(err, ErrStopping) {
		t.Errorf("at its end: %v", err)
	}
}

// TestHoldWaiting: a supervisor that waits for a client can be passed on as well.
func TestHoldWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve"))
	r.options.AtOnce = false
	r.run()
	r.await(Waiting)
	if saved := heldStill(t, r); saved.Serving != nil || saved.Number != 0 {
		t.Errorf("it has %+v", saved)
	}
	if err := r.outcome(r.supervisor.Restart(false)); err != nil {
		t.Fatal(err)
	}
}
