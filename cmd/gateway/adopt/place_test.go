package adopt

import (
	"testing"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/worker/proctree"
)

// TestIsOld: a holder that cannot be seen is not the main process of a unit that has none.
func TestIsOld(t *testing.T) {
	t.Parallel()
	unseen, seen := holders.Holder{Role: holders.Unseen}, holders.Holder{Process: proctree.Process{PID: 7}}
	for pid, want := range map[int][2]bool{0: {false, false}, 7: {false, true}} {
		d := &derivation{plan: &Plan{Old: Unit{Name: "bot.service", MainPID: pid}}}
		if got := [2]bool{d.isOld(unseen), d.isOld(seen)}; got != want {
			t.Errorf("MainPID %d: unseen, seen are the old one: %v, want %v", pid, got, want)
		}
	}
}
