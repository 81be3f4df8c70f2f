package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDefaultPath(t *testing.T) {
	t.Setenv("HOME", "/home/clara")
	for _, test := range []struct{ xdg, want string }{
		{"", "/home/clara/.config/openclaw-gateway/config.yaml"},
		{"relative", "/home/clara/.config/openclaw-gateway/config.yaml"},
		{"/xdg", "/xdg/openclaw-gateway/config.yaml"},
	} {
		t.Setenv("XDG_CONFIG_HOME", test.xdg)
		if got := DefaultPath(true, ""); got != test.want {
			t.Errorf("with XDG_CONFIG_HOME=%q: %s, want %s", test.xdg, got, test.want)
		}
	}
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	if got := DefaultPath(true, ""); got != "" {
		t.Errorf("without a home: %q, want none", got)
	}
	if got := DefaultPath(false, ""); got != "/etc/openclaw-gateway/config.yaml" {
		t.Errorf("system scope: %s", got)
	}
}

func TestFind(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", "")

	system := Find("") // whatever this machine has in /etc
	if system != "" && system != DefaultPath(false, "") {
		t.Fatalf("without a file in the home: %s", system)
	}
	path := DefaultPath(true, "")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Find(""); got != path {
		t.Errorf("with a file in the home: %q, want %q", got, path)
	}
	for _, none := range []string{"/dev/null", filepath.Join(home, "missing"), ""} {
		t.Setenv("HOME", none)
		if got := Find(""); got != system {
			t.Errorf("with the home %q: %q, want %q", none, got, system)
		}
	}
}
