package handoff_test

import (
	"strings"
	"testing"

	"openclaw-gateway/worker/handoff"
)

func TestBecomes(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		"":                                  "",
		"node x.js":                         "",
		"/usr/sbin/runuser -u claw -- node": "claw",
		"runuser --user=claw node":          "claw",
		"runuser -l claw -c node":           "claw",
		"runuser -s /bin/sh claw -c node":   "claw",
		"su -s /bin/sh claw -c node":        "claw",
		"su - claw -c node":                 "claw",
		"su --command=node claw":            "claw",
		"setpriv --reuid=claw --regid=claw --init-groups node": "claw",
		"setpriv --init-groups --reuid 1000 node":              "1000",
		"gosu claw:claw node":                                  "claw",
		"su-exec claw node":                                    "claw",
		"chpst -u claw:x node":                                 "claw",
		"setpriv --no-new-privs node":                          "",
		"sudo -n -u claw node":                                 "claw",
		"sudo node -u claw":                                    "",
		"doas -u claw node":                                    "claw",
		"capsh --user=claw -- -c node":                         "claw",
		"chroot --userspec=claw:claw / node":                   "claw",
		"start-stop-daemon --start --chuid claw:claw --exec x": "claw",
		"s6-applyuidgid -u 1000 -g 1000 node":                  "1000",
		"systemd-run --uid=claw node":                          "claw",
	} {
		if got := handoff.Becomes(strings.Fields(command)); got != want {
			t.Errorf("%q becomes %q, want %q", command, got, want)
		}
	}
}
