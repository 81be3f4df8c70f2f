package check

import (
	"errors"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/test/fixtures"
)

// TestNarrow: nothing that is said of a configuration is wider than the terminal.
func TestNarrow(t *testing.T) {
	t.Parallel()
	out, fits := fixtures.Narrow(t, 60)
	w := say.NewWriter(out)
	_, err := config.Parse("/etc/openclaw-gateway/config.yaml", []byte("listn: ['127.0.0.1:18789']\nready: {timeout: soon, probe: perhaps, path: nowhere}\n"))
	if err := PrintMistakes(w, err); !errors.Is(err, ErrSaid) {
		t.Fatal(err)
	}
	reply := api.CheckReply{PID: 77, Summary: "the last line", Changes: []api.Change{
		{Key: "worker.command", From: "[node, /opt/openclaw/dist/index.js]", To: "[node, /srv/openclaw/dist/index.js, gateway]", Effect: api.EffectAtOnce},
	}}
	if err := status.WriteCheck(w, reply, client.Target{Scope: "system"}); err != nil {
		t.Fatal(err)
	}
	fits("the last line")
}
