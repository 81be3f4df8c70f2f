package install

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
)

// TestLeaveToUs: OpenClaw's file is written where somebody has said so, by an option or at a terminal, and not otherwise.
func TestLeaveToUs(t *testing.T) {
	yes, no := true, false
	for name, test := range map[string]struct {
		external *bool
		typed    string // at a terminal; "": there is none
		version  string
		set      bool
		says     string
	}{
		"an option":              {&yes, "", "2026.9.6", true, dotenv.Line + " is in "},
		"an option against it":   {&no, "", "2026.9.6", false, ""},
		"nobody to ask":          {nil, "", "2026.9.6", false, "keep them from it with `gateway install --user --external`"},
		"Enter":                  {nil, "\n", "2026.9.6", true, "[Y/n]"},
		"no":                     {nil, "what\nNo\n", "2026.9.6", false, "[Y/n]"},
		"Ctrl-D":                 {nil, "\x04", "2026.9.6", false, "[Y/n]"},
		"too old for it":         {nil, "\n", "2026.5.5", false, "OpenClaw 2026.5.5 cannot be told"},
		"too old, and an option": {&yes, "", "2026.5.5", true, dotenv.Line},
	} {
		t.Run(name, func(t *testing.T) {
			entry, state := fixtures.OpenClaw(t), t.TempDir()
			manifest := filepath.Join(filepath.Dir(filepath.Dir(entry)), "package.json")
			if err := os.WriteFile(manifest, []byte(`{"name": "openclaw", "version": "`+test.version+`"}`), 0o644); err != nil {
				t.Fatal(err)
			}
			var said bytes.Buffer
			in := &Installer{EUID: os.Geteuid, External: test.external, In: strings.NewReader(""), Out: &said, Advice: &said}
			if test.typed != "" {
				master, slave := fixtures.Terminal(t)
				if _, err := master.WriteString(test.typed); err != nil {
					t.Fatal(err)
				}
				in.In, in.Advice = slave, say.NewWriter(slave)
				defer func() {
					slave.Close()
					shown, _ := io.ReadAll(master) // EIO, at the end of what was written
					if !strings.Contains(string(shown)+said.String(), test.says) {
						t.Errorf("it says %q, want %q", string(shown)+said.String(), test.says)
					}
				}()
			} else {
				defer func() {
					if !strings.Contains(said.String(), test.says) {
						t.Errorf("it says %q, want %q", said.String(), test.says)
					}
				}()
			}
			to := installation{scope: units.User, worker: config.Worker{
				Command: []string{"/usr/bin/node", entry, "gateway"}, Environment: []string{"OPENCLAW_STATE_DIR=" + state},
			}}
			if err := in.leaveToUs(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(state, ".env")
			if content, err := os.ReadFile(path); (err == nil) != test.set || test.set && !strings.Contains(string(content), dotenv.Line+"\n") {
				t.Errorf("%s is %q, %v, want it set: %t", path, content, err, test.set)
			}
			in.External = &no
			if err := in.leaveToUs(t.Context(), to); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s is still there", path)
			}
		})
	}
	t.Run("another program", func(t *testing.T) {
		in := &Installer{EUID: os.Geteuid, External: &yes, Out: io.Discard, Advice: io.Discard}
		if err := in.leaveToUs(t.Context(), installation{scope: units.User, worker: config.Worker{Command: []string{"/usr/bin/node", "server.js"}}}); err != nil {
			t.Error(err)
		}
	})
}
