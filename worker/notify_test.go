package worker

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/generation"
)

func TestProbeNotify(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"self", "child", "flood", "tool"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "serve", "notify="+how, "gate="+gate))
			r.spec.Probe = generation.ProbeNotify
			r.run()
			r.await(Starting)
			opened := time.Now()
			open(t, gate)
			if s := r.await(Ready); s.Since.Before(opened) {
				t.Errorf("ready before it said so: %+v", s)
			}
			// It is not stuck in a message that nobody takes.
			r.wantAnswer("/", "generation 1,")
			if s := r.ended(); s.LastExit.Signal != unix.SIGTERM {
				t.Errorf("end of the generation: %+v", s.LastExit)
			}
		})
	}
}

// TestProbeAutoNotify: READY=1 counts although the worker takes no connection.
func TestProbeAutoNotify(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/ready"} {
		t.Run("path "+path, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "deaf", "notify=self"))
			r.spec.Probe, r.spec.ReadyPath = generation.ProbeAuto, path
			r.run()
			r.await(Ready)
		})
	}
}

// TestStopping: a worker can say that it stops, and what it does until then; some fail if nobody takes it.
func TestStopping(t *testing.T) {
	t.Parallel()
	r := newRig(t, command(t, "serve", "notify=self", "trap=SIGTERM:7"))
	r.spec.Probe = generation.ProbeNotify
	r.run()
	r.await(Ready)
	if s := r.ended(); s.LastExit.Code != 7 {
		t.Errorf("end of the generation: %+v", s.LastExit)
	}
}
