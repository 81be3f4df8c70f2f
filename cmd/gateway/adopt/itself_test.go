package adopt

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/systemd"
)

// TestAnother: by what a command becomes another user before it starts a gateway.
func TestAnother(t *testing.T) {
	t.Parallel()
	const gateway = " node /opt/openclaw/dist/index.js gateway"
	for command, want := range map[string]Another{
		"nice -n 3" + gateway + " --name su":                    {},
		"setpriv --no-new-privs" + gateway:                      {},
		"/usr/bin/setpriv --reuid=bot --clear-groups" + gateway: {By: "setpriv", User: "bot"},
		"/usr/bin/setpriv --reuid=bot /home/bot/start.sh":       {By: "setpriv", User: "bot"},
		"sudo" + gateway:                                         {By: "sudo"},
		"env A=b doas -u bot" + gateway:                          {By: "doas", User: "bot"},
		"su - bot -c /home/bot/start.sh":                         {By: "su", User: "bot"},
		"exec gosu bot:bot" + gateway:                            {By: "gosu", User: "bot"},
		"chpst -u bot:bot" + gateway:                             {By: "chpst", User: "bot"},
		"chpst -m 9000000" + gateway:                             {},
		"docker run --rm openclaw su-exec node openclaw gateway": {},
	} {
		if got := anotherIn(strings.Fields(command)); got != want {
			t.Errorf("%q: %+v, want %+v", command, got, want)
		}
	}
}

// TestItself: who is root may become less, and nobody is told to have a unit run as somebody who is more.
func TestItself(t *testing.T) {
	t.Parallel()
	roots := &derivation{c: Candidate{Properties: systemd.Properties{"Id": "bot.service"}}}
	users := &derivation{c: Candidate{Properties: systemd.Properties{"Id": "bot.service"}}, was: account{UID: 1000, Name: "bot"}}
	own := &derivation{c: Candidate{Properties: systemd.Properties{"Id": "bot.service"}, Manager: systemd.Manager{User: true}}}
	for _, c := range []struct {
		of   *derivation
		by   Another
		want string
	}{
		{roots, Another{By: "gosu", User: "bot"}, "it becomes user bot itself, by gosu: give its unit User=bot, and take gosu out (`systemctl edit --full bot.service`)"},
		{roots, Another{By: "doas"}, "it becomes another user itself, by doas: give its unit User=, and take doas out"},
		{roots, Another{User: "bot"}, "it becomes user bot itself: give its unit User=bot, and take what makes it that user out (`systemctl edit --full bot.service`)"},
		{users, Another{By: "doas", User: "root"}, "it becomes user root itself, by doas: take doas out of what it starts"},
		{own, Another{By: "sudo", User: "root"}, "it becomes user root itself, by sudo: take sudo out of what it starts"},
	} {
		if err := c.of.itself(c.by); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if err := roots.itself(Another{}); err != nil {
		t.Error(err)
	}
}
