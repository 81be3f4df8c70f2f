package test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/machine"
	"openclaw-gateway/units"
)

// TestQuoting has systemd itself read what the units are made of: the program is executed by its path, with the very
// arguments that were meant, or what it is called is refused when the unit is written.
func TestQuoting(t *testing.T) { onBoth(t, testQuoting) }

func testQuoting(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	// It writes down how it was called.
	const dump = "#!/bin/sh\nprintf '%s\\0' \"$0\" \"$@\" >/run/called\n"
	words := []string{
		"/plain", "/a b", "/ a", "/a ", "/\u00a0", `/"`, `/'`, `/\`, `/\\`, `/a\`, `/a"b'c`, "/;", "/a ; b", "/#a", "/$", "/$HOME", "/${HOME}", "/$$", "/a$",
		"/%", "/%%", "/%h", "/100%", "/%$", `/\x41`, `/\n`, `/\s`, "/-", "/@x", "/é", "/日本", "/\u202e", "/\ufeff", "/a=b", "/{}", "/[a]*",
		"/\ufdd0", "/\ufffe", "/\xff", "/a\nb", "/\r", "/\t", "/\x7f", "/\u0085",
	}
	refused := 0
	for _, at := range []string{"program", "configuration"} {
		for _, word := range words {
			params := units.Params{
				Scope: units.System, Executable: "/opt/q/gateway", Config: word, Listen: []netaddr.Address{netaddr.MustParse(ipv4)}, StopTimeout: time.Second,
			}
			if at == "program" {
				params.Executable, params.Config = "/opt/q"+word+"/gateway", "/etc/x"
			}
			files, err := units.Render(params)
			if err != nil {
				refused++
				continue
			}
			start := ""
			for line := range strings.Lines(string(files[1].Content)) {
				if strings.HasPrefix(line, "ExecStart=") {
					start = line
				}
			}
			m.WriteFile(t, params.Executable, dump, 0o755)
			m.WriteFile(t, "/run/systemd/system/q.service", "[Service]\nType=oneshot\n"+start, 0o644)
			m.WriteFile(t, "/run/called", "", 0o644)
			m.Systemctl(t, "daemon-reload")
			_, err = m.Output("systemctl", "start", "q.service")
			got := strings.Split(m.ReadFile(t, "/run/called"), "\x00")
			if want := []string{params.Executable, "run", "--config", params.Config, ""}; err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %q: %s has systemd run %q, want %q (%v)", at, word, start, got, want, err)
			}
		}
	}
	// The last eight cannot be in a unit at all.
	if refused < 2*8 {
		t.Errorf("%d are refused, want at least %d", refused, 2*8)
	}
}
