package why

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
)

func TestAdvice(t *testing.T) {
	at := func(e End, command ...string) End {
		e.Command, e.Held = command, "127.0.0.1:18789"
		if e.Handoff == "" {
			e.Handoff = handoff.ListenFDs
		}
		return e
	}
	for name, test := range map[string]struct {
		end  End
		want string // a part of it; "" for none at all
	}{
		"killed for memory":          {at(End{Code: -1, Signal: unix.SIGKILL, OOMKills: 1, Ready: true}, "x"), "MemoryMax="},
		"a child killed for memory":  {at(End{Code: 1, OOMKills: 2, Ready: true}, "x"), "killed 2 of its processes for want of memory"},
		"killed by somebody":         {at(End{Code: -1, Signal: unix.SIGKILL}, "x"), ""},
		"crashed":                    {at(End{Code: -1, Signal: unix.SIGSEGV}, "x"), ""},
		"has served":                 {at(End{Code: 1, Ready: true, Lived: time.Second}, "x"), ""},
		"to the background":          {at(End{Strays: 1}, "nginx"), "daemon off"},
		"to it after it has served":  {at(End{Strays: 1, Ready: true, Lived: 2 * time.Second}, "x"), "background"},
		"has left something":         {at(End{Strays: 1, Ready: true, Lived: time.Hour}, "x"), ""},
		"killed behind a shell":      {at(End{Code: 137, OOMKills: 1, Ready: true}, "sh"), "MemoryMax="},
		"137 of itself":              {at(End{Code: 137, Ready: true}, "sh"), ""},
		"has served before":          {at(End{Code: 1, Served: true}, "x"), ""},
		"no script":                  {at(End{Code: 2}, "python3", "/gone.py"), "/gone.py, which is not there: correct worker.command"},
		"Node.js, listen-fds":        {at(End{Code: 1}, "/usr/bin/node", "-e", "1"), "set worker.handoff to auto"},
		"no server":                  {at(End{}, "true"), "needs a server"},
		"Node.js for a while":        {at(End{Handoff: handoff.Preload}, "node", "x.js"), "a child process or a worker thread of it is to listen, which gets EADDRINUSE by preload, set worker.handoff to intercept"},
		"configuration":              {at(End{Code: 78}, "node", "x"), "EX_CONFIG"},
		"not found":                  {at(End{Code: 127}, "sh", "-c", "nothing"), "whole path"},
		"binds itself":               {at(End{Code: 1, Lived: time.Second}, "python3", "-m", "http.server", "18789"), "binds 127.0.0.1:18789 itself"},
		"took its time":              {at(End{Code: 1, Lived: time.Minute}, "x"), ""},
		"behind nice":                {at(End{Code: 1}, "/usr/bin/nice", "/opt/bin/node", "x.js"), "Node.js behind nice"},
		"behind env -S":              {at(End{Code: 1}, "env", "-S", "node --no-warnings x.js"), "Node.js behind env"},
		"behind a shell":             {at(End{Code: 1}, "sh", "-c", "cd /srv; exec node x.js"), "Node.js behind sh"},
		"a shell becomes it":         {at(End{Code: 1, Handoff: handoff.Auto, Lived: time.Minute}, "sh", "-c", "cd /srv; exec node x.js"), ""},
		"npm behind a shell":         {at(End{Code: 1, Handoff: handoff.Auto}, "bash", "-lc", "cd /srv && exec npm start"), "npm starts another Node.js"},
		"npm, seen to be Node.js":    {at(End{Code: 1, Handoff: handoff.Preload}, "sh", "-c", "npm start"), "npm starts another Node.js"},
		"--watch behind nice":        {at(End{Code: 1, Handoff: handoff.Auto}, "nice", "node", "--watch", "x.js"), "--watch starts another"},
		"sudo":                       {at(End{Code: 1}, "/usr/bin/sudo", "-u", "x", "node", "x.js"), "setpriv --reuid=USER"},
		"sudo behind a shell":        {at(End{Code: 1, Handoff: handoff.Auto}, "sh", "-c", "sudo -u x node x.js"), "sudo passes no sockets on"},
		"runuser":                    {at(End{Code: 1, Handoff: handoff.Auto}, "/usr/sbin/runuser", "-u", "x", "--", "python3", "x.py"), "runuser starts the server as a process of its own"},
		"runuser, and intercept":     {at(End{Code: 1, Handoff: handoff.Auto, Filtered: true}, "runuser", "-u", "x", "--", "python3", "x.py"), "runuser starts the server as a process of its own"},
		"the same, and it has bound": {at(End{Code: 1, Handoff: handoff.Intercept, Filtered: true, Listened: true}, "runuser", "-u", "x", "--", "python3", "x.py"), ""},
		"runuser, intercept alone":   {at(End{Code: 1, Handoff: handoff.Intercept, Filtered: true}, "runuser", "-u", "x", "--", "python3", "x.py"), ""},
		"a login, and intercept":     {at(End{Code: 1, Handoff: handoff.Auto, Filtered: true}, "/bin/su", "-", "x", "-c", "node x.js"), ""},
		"su":                         {at(End{Code: 1, Handoff: handoff.Auto}, "su", "-s", "/bin/sh", "x", "-c", "python3 x.py"), "setpriv --reuid=USER"},
		"tini":                       {at(End{Code: 1, Handoff: handoff.Auto}, "tini", "--", "python3", "x.py"), "leave it out of worker.command"},
		"runuser, Node.js":           {at(End{Code: 1, Handoff: handoff.Preload}, "runuser", "-u", "x", "--", "node", "x.js"), ""},
		"a login":                    {at(End{Code: 1, Handoff: handoff.Auto}, "/bin/su", "-", "x", "-c", "node x.js"), "su - gives what it starts a new environment"},
		"a login by runuser":         {at(End{Code: 1, Handoff: handoff.Auto}, "runuser", "-l", "x", "-c", "node x.js"), "runuser -l gives"},
		"a login behind a shell":     {at(End{Code: 1, Handoff: handoff.Auto}, "sh", "-c", "cd /; su - x -c 'node x.js'"), "su - gives"},
		"env -i":                     {at(End{Code: 1, Handoff: handoff.Auto}, "env", "-i", "PATH=/bin", "node", "x.js"), "env -i gives"},
		"its own name":               {at(End{Code: 1}, "python3", "-u", "/srv/node/app.py"), "binds"},
		"npm":                        {at(End{Code: 1, Handoff: handoff.Preload}, "/usr/bin/npm", "start"), "npm starts another Node.js"},
		"node --watch":               {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--watch", "x.js"), "--watch starts another"},
		"node --watch-path":          {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--watch-path=/srv", "x.js"), "--watch-path starts another"},
		"--watch-path behind nice":   {at(End{Code: 1, Handoff: handoff.Auto}, "nice", "node", "--watch-path=/srv", "x.js"), "--watch-path starts another"},
		"node --test":                {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--test", "x.js"), "--test starts another"},
		"node --run":                 {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--run", "start"), "--run starts another"},
		"--watch of the program":     {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--no-warnings", "x.js", "--watch", "--run"), ""},
		"openclaw.mjs":               {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--no-warnings", "/opt/openclaw/openclaw.mjs", "gateway"), "dist/index.js"},
		"has listened":               {at(End{Code: 1, Handoff: handoff.Preload, Listened: true}, "npm", "start"), ""},
		"node":                       {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--no-warnings", "x.js", "npm"), ""},
		"node of its own":            {at(End{Code: 1, Handoff: handoff.Preload}, "node", "--no-warnings", "x.js"), ""},
	} {
		got := test.end.Advice()
		if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

// TestAway: an entry file of OpenClaw's starts itself again, and one of that name of another program's does not.
func TestAway(t *testing.T) {
	for command, want := range map[string]bool{
		"node /opt/clawdbot/dist/entry.js gateway": true, "node --no-warnings /opt/openclaw/dist/entry.js gateway": true,
		"node /opt/openclaw/dist/index.js gateway": false, "node /srv/app/dist/entry.js gateway": false, "node x.js /opt/openclaw/dist/entry.js": false,
	} {
		if got := Away(strings.Fields(command), handoff.Preload); strings.Contains(got, "may start another Node.js") != want {
			t.Errorf("%s: %q", command, got)
		}
	}
}
