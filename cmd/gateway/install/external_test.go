package install

import (
	"bytes"
	"errors"
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
		"behind a wrapper":       {&yes, "", "2026.9.6", true, dotenv.Line + " is in "},
		"a wrapper, too old":     {nil, "\n", "2026.5.5", false, "OpenClaw 2026.5.5 cannot be told"},
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
			if strings.Contains(name, "wrapper") {
				to.worker.Command = append([]string{"/usr/bin/nice", "-n", "5"}, to.worker.Command...)
			}
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
	t.Run("state that is somewhere", func(t *testing.T) {
		script, path := filepath.Join(t.TempDir(), "start.sh"), filepath.Join(t.TempDir(), "config.yaml")
		text := "#!/bin/sh\n. /etc/default/openclaw\nexport OPENCLAW_STATE_DIR=\"$DATA/openclaw\"\nexec node " + fixtures.OpenClaw(t) + " gateway\n"
		if err := errors.Join(os.WriteFile(script, []byte(text), 0o755), os.WriteFile(path, []byte("worker: {command: ["+script+"]}\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
		for what, act := range map[string]func(*Installer) error{
			"install": func(in *Installer) error {
				return in.leaveToUs(t.Context(), installation{scope: units.User, worker: config.Worker{Command: []string{script}}})
			},
			"uninstall": func(in *Installer) error {
				return in.giveBack(t.Context(), installation{scope: units.User, config: path})
			},
		} {
			var said bytes.Buffer
			in := &Installer{EUID: os.Geteuid, Out: io.Discard, Advice: &said}
			if err := act(in); err != nil || !strings.Contains(said.String(), "by OPENCLAW_STATE_DIR in worker.environment") {
				t.Errorf("%s: %v, and it says %q", what, err, said.String())
			}
		}
	})
	t.Run("another program", func(t *testing.T) {
		var said bytes.Buffer
		in := &Installer{EUID: os.Geteuid, External: &yes, Out: io.Discard, Advice: &said}
		if err := in.leaveToUs(t.Context(), installation{scope: units.User, worker: config.Worker{Command: []string{"/usr/bin/node", "server.js"}}}); err != nil {
			t.Error(err)
		}
		if !strings.Contains(said.String(), "nothing is written for --external") {
			t.Errorf("it says %q", said.String())
		}
	})
}

// TestGiveBack: what was written for an OpenClaw is taken out when its launcher goes, whatever that has started it through.
func TestGiveBack(t *testing.T) {
	for name, wrap := range map[string]func(command string) string{
		"directly":     func(command string) string { return "[" + command + "]" },
		"through nice": func(command string) string { return "[nice, " + command + "]" },
		"through bash": func(command string) string { return "[bash, -c, exec " + strings.ReplaceAll(command, ", ", " ") + "]" },
		"through script": func(command string) string {
			script := filepath.Join(t.TempDir(), "start.sh")
			if err := os.WriteFile(script, []byte("#!/bin/sh\nexec "+strings.ReplaceAll(command, ", ", " ")+" \"$@\"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			return "[" + script + "]"
		},
	} {
		t.Run(name, func(t *testing.T) {
			entry, state := fixtures.OpenClaw(t), t.TempDir()
			path, env := filepath.Join(t.TempDir(), "config.yaml"), filepath.Join(state, ".env")
			content := "worker:\n  command: " + wrap("node, "+entry+", gateway") + "\n  environment: [OPENCLAW_STATE_DIR=" + state + "]\n"
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := (dotenv.File{Path: env, UID: os.Geteuid()}).Set(t.Context()); err != nil {
				t.Fatal(err)
			}
			in := &Installer{EUID: os.Geteuid, Out: io.Discard, Advice: io.Discard}
			if err := in.giveBack(t.Context(), installation{scope: units.User, config: path}); err != nil {
				t.Fatal(err)
			}
			if left, err := os.ReadFile(env); err == nil {
				t.Errorf("left: %q", left)
			}
		})
	}
}
