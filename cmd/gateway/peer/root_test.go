package peer

import "testing"

func TestRootHere(t *testing.T) {
	t.Parallel()
	for uidMap, want := range map[string]uint32{
		"         0          0 4294967295\n":                                   0, // the machine's
		"      1000       1000          1\n":                                   65534,
		"         0       1000          1\n         1     100000      65536\n": 0, // a rootless container's
		"      1000          0          1\n         0       1000          1\n": 0,
		"": 0,
	} {
		if got := rootHere(uidMap); got != want {
			t.Errorf("root is %d in %q, want %d", got, uidMap, want)
		}
	}
}
