package worker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/worker/generation"
)

// TestProbeHTTP: an answer that is not ready is told, and the path asked for again, by auto as well.
func TestProbeHTTP(t *testing.T) {
	t.Parallel()
	for probe, unready := range map[generation.Probe]int{generation.ProbeHTTP: 2, generation.ProbeAuto: 1} {
		t.Run(string(probe), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, command(t, "serve", fmt.Sprintf("unready=%d", unready)))
			r.spec.Probe, r.spec.ReadyPath = probe, "/ready"
			r.options.AnswerTimeout = bound // a request that is given up is answered with 503, too, and nobody is told
			r.run()
			r.await(Ready)
			if got := strings.Count(r.log.String(), "was answered with 503"); got != unready {
				t.Errorf("%d requests were answered with 503, want %d", got, unready)
			}
		})
	}
}

func TestProbeAdopted(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"greet", "close", "silence"} {
		t.Run(then, func(t *testing.T) {
			t.Parallel()
			gate := fifo(t)
			r := newRig(t, command(t, "accept", "then="+then, "gate="+gate))
			r.run()
			r.await(Starting)
			opened := time.Now()
			open(t, gate)
			if s := r.await(Ready); s.Since.Before(opened) {
				t.Errorf("ready before it accepted: %+v", s)
			}
		})
	}
}
