package instance

import "testing"

// TestDirectory: a drop-in adds directories to the unit's, and systemd sorts them.
func TestDirectory(t *testing.T) {
	for value, want := range map[string]string{
		"":                                    "",
		"/run/bot":                            "/run/bot",
		"/run/openclaw-gateway":               "/run/openclaw-gateway",
		"/run/a:/run/b":                       "/run/a",
		"/run/b:/run/openclaw-gateway:/run/z": "/run/openclaw-gateway",
		"/run/b:/run/openclaw-gateway-work":   "/run/openclaw-gateway-work",
	} {
		if got := Directory(value); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
