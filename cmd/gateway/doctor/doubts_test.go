package doctor

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
)

// TestByHandAlone: what "gateway install" refuses of listen is told before somebody runs it.
func TestByHandAlone(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		`["127.0.0.1:18789", "*:18790", "unix:/run/a b%.sock"]`: "",
		`["127.0.0.1:18789", "[fe80::1%lo]:18789"]`:             `as "gateway install" refuses it: cannot listen on [fe80::1%lo]:18789: systemd drops`,
	} {
		cfg, err := config.Parse("c.yaml", []byte("listen: "+listen+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, doubt := range Doubts(cfg) {
			said += doubt.Key + ": " + doubt.Sentence
		}
		if !strings.Contains(said, want) || want == "" && said != "" {
			t.Errorf("%s: %q, want %q", listen, said, want)
		}
	}
}
