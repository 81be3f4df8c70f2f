package status

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/cmd/gateway/api"
	gateway "openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
)

// TestStatusText: what a person sees for each verdict, and the exit status.
func TestStatusText(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	t.Cleanup(func() { time.Local = local })
	synctest.Test(t, func(t *testing.T) {
		now := time.Now() // midnight, 1 January 2000
		ago := func(d time.Duration) *time.Time { return api.Moment(now.Add(-d)) }
		twelve, none := 12, 0
		manager := api.Holder{PID: 1, Role: api.RoleSystemd, Command: "systemd", Since: ago(72 * time.Hour), Unit: "init.scope"}
		launcher := api.Holder{PID: 812, Role: api.RoleLauncher, Command: "gateway run", Since: ago(2 * time.Hour), Unit: "openclaw-gateway.service", Parent: 1}
		worker := api.Holder{PID: 834, Role: api.RoleWorker, Command: "node index.js", Since: ago(time.Hour), Unit: "openclaw-gateway.service", Parent: 812}
		orphan := api.Holder{PID: 999, Role: api.RoleOrphan, Command: "node old.js", Since: ago(time.Hour), Parent: 1}
		socket := func(address string, connections *int, holders ...api.Holder) api.Socket {
			return api.Socket{Address: address, Inode: 4711, Backlog: 4096, Connections: connections, Holders: holders}
		}
		unit := api.Unit{Name: "openclaw-gateway.service", Scope: "system", ActiveState: "active", MainPID: 812}
		running := api.Launcher{PID: 812, Since: ago(2 * time.Hour), Holder: api.FromSystemd}
		applied := api.Config{Path: "/etc/c.yaml", State: "applied"}
		tests := []struct {
			verdict api.Verdict
			status  api.Status
			exit    int
			want    string
		}{
			{
				api.VerdictOK, api.Status{
					Version: "v1", Unit: unit, Launcher: running, Config: applied,
					Sockets: []api.Socket{socket("127.0.0.1:18789", &twelve, manager, launcher, worker), socket("[::1]:18789", &none, manager, launcher, worker)},
					Worker: api.Worker{
						State: "ready", PID: 834, Generation: 3, Since: ago(5 * time.Minute), ReadyAfterMS: 8123, Handoff: "preload", MemoryBytes: 88 << 20,
						LastExit: &api.Exit{Generation: 2, Code: -1, Signal: "SIGKILL", Reason: "crash", At: *ago(30 * time.Second), Strays: 2},
					},
				}, 0, `
ok: generation 3 serves 127.0.0.1:18789 and [::1]:18789
    socket  127.0.0.1:18789, 12 connections, 0 of 4096 waiting
    socket  [::1]:18789, 0 connections, 0 of 4096 waiting
            systemd   pid 1        root  systemd
            launcher  pid 812      root  gateway run
            worker    pid 834      root  node index.js
    worker  generation 3, ready since 1999-12-31 23:55:00 (5 min ago), 88 MiB
 last exit  generation 2, 30 s ago: killed by SIGKILL (crash), left 2 processes
    config  /etc/c.yaml, applied
`,
			},
			{
				api.VerdictWaiting, api.Status{
					Unit: api.Unit{Scope: "none"}, Config: api.Config{State: "applied"},
					Sockets: []api.Socket{socket("127.0.0.1:18789", nil, launcher)}, Worker: api.Worker{State: "waiting"},
				}, 0, `
waiting: the first client of 127.0.0.1:18789 starts the worker
    socket  127.0.0.1:18789, connections unknown, 0 of 4096 waiting
            launcher  pid 812      root  gateway run
    config  built-in defaults, applied
`,
			},
			{
				api.VerdictStarting, api.Status{
					Unit: unit, Worker: api.Worker{State: "starting", PID: 834, Generation: 4, Since: ago(0), Handoff: "listen-fds", WaitsUntil: ago(-5 * time.Minute)},
					Notes: []string{"the worker is in another network namespace"},
				}, 0, `
starting: generation 4 is starting, clients of the port wait, until 00:05:00 at the latest
      note  the worker is in another network namespace
      unit  openclaw-gateway.service (system scope), active, main pid 812
    worker  generation 4, pid 834, starting since 2000-01-01 00:00:00 (0 s ago), until 00:05:00 at the latest, handoff listen-fds
`,
			},
			{
				api.VerdictDegraded, api.Status{
					Problems: []string{"generation 4 ended: exit code 1"}, Unit: unit,
					Worker: api.Worker{
						State: "backoff", Generation: 4, FrontDesk: true, NextStart: ago(-7 * time.Second),
						LastExit: &api.Exit{Generation: 4, Code: 1, Reason: "crash", At: *ago(72 * time.Hour)},
					},
					Config: api.Config{Path: "/etc/c.yaml", State: "rejected"},
				}, 1, `
degraded: clients of the port get HTTP 503 until 00:00:07, when the next generation starts
   problem  generation 4 ended: exit code 1
      unit  openclaw-gateway.service (system scope), active, main pid 812
    worker  backoff, next start at 2000-01-01 00:00:07
 last exit  generation 4 at 1999-12-29 00:00:00 (3 days ago): exit code 1 (crash)
    config  /etc/c.yaml, rejected
`,
			},
			{
				api.VerdictOrphan, api.Status{
					Problems: []string{"held by pid 999"}, Unit: api.Unit{Name: "openclaw-gateway.service", Scope: "user"},
					Sockets: []api.Socket{socket("127.0.0.1:18789", &none, orphan)}, Worker: api.Worker{State: "waiting"},
				}, 1, `
orphan: an OpenClaw gateway that no unit keeps running holds 127.0.0.1:18789
   problem  held by pid 999
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting
            orphan    pid 999      root  since 1999-12-31 23:00:00  child of 1  node old.js
      unit  openclaw-gateway.service (user scope), the service manager does not answer, main pid 0
`,
			},
			{
				api.VerdictRival,
				api.Status{Unit: api.Unit{Scope: "none"}, Unseen: 3, Sockets: []api.Socket{socket("127.0.0.1:18789", &none)}},
				1, `
rival: an OpenClaw gateway of another unit holds 127.0.0.1:18789
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting
            held by a process that cannot be seen from here; its socket was made by root
`,
			},
			{
				api.VerdictForeign,
				api.Status{Unit: api.Unit{Scope: "none"}, Sockets: []api.Socket{socket("127.0.0.1:18789", &none)}},
				1, `
foreign: another program holds 127.0.0.1:18789
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting
            held from outside this container (PID namespace), or by the kernel; its socket was made by root
`,
			},
			{api.VerdictDown, api.Status{Unit: api.Unit{Scope: "none"}, Problems: []string{"run this"}}, 3, `
down: the launcher is not running, clients of the port are refused
   problem  run this
`},
		}
		for _, test := range tests {
			s := View{Status: test.status}
			s.Verdict = test.verdict
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), s.text(style{})); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.verdict, diff)
			}
			if exit := s.ExitStatus(); exit != test.exit {
				t.Errorf("%s exits with %d, want %d", test.verdict, exit, test.exit)
			}
			// Colours add nothing but themselves.
			var out strings.Builder
			_, _ = say.NewWriter(&out).Write([]byte(s.text(style{Painter: true})))
			coloured := out.String()
			if !strings.HasPrefix(coloured, "\x1b[") {
				t.Errorf("%s has no colour: %q", test.verdict, coloured)
			}
			for _, c := range []say.Colour{say.Bold, say.Dim, say.Red, say.Green, say.Yellow, say.Cyan, "0"} {
				coloured = strings.ReplaceAll(coloured, "\x1b["+string(c)+"m", "")
			}
			if coloured != s.text(style{}) {
				t.Errorf("%s without its colours is\n%q", test.verdict, coloured)
			}
		}
	})
}

// TestHeadline says what clients meet, and not the name of a state.
func TestHeadline(t *testing.T) {
	until := time.Date(2000, 1, 1, 12, 0, 7, 0, time.Local)
	for _, test := range []struct {
		verdict api.Verdict
		worker  api.Worker
		want    string
	}{
		{api.VerdictDegraded, api.Worker{State: "backoff", Generation: 3, FrontDesk: true, NextStart: &until}, "clients of 127.0.0.1:1 get HTTP 503 until 12:00:07, when the next generation starts"},
		{api.VerdictDegraded, api.Worker{State: "backoff", Generation: 3, NextStart: &until}, "clients of 127.0.0.1:1 wait until 12:00:07, when the next generation starts"},
		{api.VerdictDegraded, api.Worker{State: "backoff", Generation: 3}, "clients of 127.0.0.1:1 wait until the generation that leaves has ended"},
		{api.VerdictDegraded, api.Worker{State: "failed", FrontDesk: true}, "clients of 127.0.0.1:1 get HTTP 503 until somebody acts"},
		{api.VerdictDegraded, api.Worker{State: "failed", Generation: 3}, "clients of 127.0.0.1:1 wait until somebody acts"},
		{api.VerdictDegraded, api.Worker{State: "stopping", Generation: 3, WaitsUntil: &until}, "clients of 127.0.0.1:1 wait: generation 3 is stopping, until 12:00:07 at the latest"},
		{api.VerdictDegraded, api.Worker{State: "ready", Generation: 3}, "generation 3 serves 127.0.0.1:1, and something else is wrong"},
		{api.VerdictDegraded, api.Worker{State: "waiting", Generation: 3}, "the next client of 127.0.0.1:1 starts the worker, and something else is wrong"},
		{api.VerdictDegraded, api.Worker{State: "waiting"}, "see the problems"},
		{api.VerdictHung, api.Worker{State: "ready", Generation: 3}, "generation 3 hangs, clients of 127.0.0.1:1 wait"},
		{api.VerdictStarting, api.Worker{State: "stopping", Generation: 3, WaitsUntil: &until}, "generation 3 is stopping, clients of 127.0.0.1:1 wait, until 12:00:07 at the latest"},
	} {
		s := View{Status: api.Status{Verdict: test.verdict, Worker: test.worker, Sockets: []api.Socket{{Address: "127.0.0.1:1"}}}}
		if got := s.headline(); got != test.want {
			t.Errorf("%s, %s: %s, want %s", test.verdict, test.worker.State, got, test.want)
		}
	}
	// Of several addresses the others may well be served.
	s := View{Status: api.Status{Verdict: api.VerdictHung, Worker: api.Worker{Generation: 3}, Sockets: []api.Socket{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2", WaitingS: 2}}}}
	if got, want := s.headline(), "generation 3 hangs, clients of 127.0.0.1:2 wait"; got != want {
		t.Errorf("hung on one of two: %s, want %s", got, want)
	}
}

// TestWidth: no line is wider than the terminal, a healthy status of an ordinary user is short, and whoever wants all gets it.
func TestWidth(t *testing.T) {
	long := "/usr/bin/node --max-old-space-size=4096 /home/alice/.npm-global/lib/node_modules/openclaw/dist/index.js gateway run --port 18789"
	connections, since := 3, time.Now().Add(-time.Hour)
	holders := []api.Holder{
		{PID: 1, Role: api.RoleSystemd, Command: "/lib/systemd/systemd --system --deserialize 20", UID: 0, Since: &since, Unit: "init.scope"},
		{PID: 7654321, Role: api.RoleLauncher, Command: "/usr/local/bin/gateway run --config /etc/openclaw-gateway/config.yaml", Since: &since, Unit: "openclaw-gateway.service"},
		{PID: 7654322, Role: api.RoleWorker, Command: long[:len(long)-3] + "…", Since: &since, Unit: "openclaw-gateway.service"},
	}
	s := View{Status: api.Status{
		Version: "v1", Verdict: api.VerdictOK, Unseen: 140, Unit: api.Unit{Name: "openclaw-gateway.service", Scope: "system", ActiveState: "active", MainPID: 7654321},
		Launcher: api.Launcher{PID: 7654321, Since: &since, Holder: api.FromSystemd},
		Sockets: []api.Socket{
			{Address: "127.0.0.1:18789", Backlog: 4096, Connections: &connections, Holders: holders},
			{Address: "[::1]:18789", Backlog: 4096, Connections: &connections, Holders: holders},
		},
		Worker: api.Worker{
			State: "ready", Generation: 12, PID: 7654322, Since: &since, ReadyAfterMS: 8123, Handoff: "preload", MemoryBytes: 512 << 20,
			LastExit: &api.Exit{Generation: 11, Code: 0, Reason: "restart", At: since},
		},
		Config: api.Config{Path: "/home/alice/.config/openclaw-gateway/config.yaml", State: "applied"},
	}}
	s.Notes = []string{gateway.UnseenNote(140, gateway.Me())}
	s.commands = map[int]string{7654322: long}
	broken := s
	broken.Verdict, broken.Problems = api.VerdictOrphan, []string{"127.0.0.1:18789 is held by pid 5 (node): " +
		"`sudo runuser --pty -u alice -- env XDG_RUNTIME_DIR=/run/user/1000 systemctl --user stop openclaw-old.service` stops it"}
	broken.Sockets = slices.Clone(s.Sockets)
	broken.Sockets[0].Holders = []api.Holder{{PID: 5, Role: api.RoleOrphan, Command: long, Since: &since, Unit: "left.service", Parent: 1}}
	for name, view := range map[string]View{"healthy": s, "broken": broken} {
		for columns := 40; columns <= 200; columns += 5 {
			for _, full := range []bool{false, true} {
				text := view.text(style{columns: columns, full: full})
				for line := range strings.Lines(text) {
					if width := say.Width(strings.TrimSuffix(line, "\n")); width > columns && len(strings.Fields(strings.TrimSuffix(line, " \\\n"))) > 1 { // a word of a command is not broken
						t.Errorf("%s in %d columns has a line of %d: %s", name, columns, width, line)
					}
				}
			}
		}
	}
	// As root sees them: its own, and a user's.
	theirs := s
	theirs.theirs, theirs.Unit.User, theirs.at.Scope, theirs.at.Instance = true, "alice", "user", "a-name-that-is-not-short"
	for columns := 40; columns <= 200; columns += 5 {
		text := statusText([]View{broken, theirs}, style{columns: columns})
		for line := range strings.Lines(text) {
			if width := say.Width(strings.TrimSuffix(line, "\n")); width > columns {
				t.Errorf("two launchers in %d columns have a line of %d: %s", columns, width, line)
			}
		}
		if !strings.Contains(text, "user alice") {
			t.Errorf("in %d columns it does not say whose it is:\n%s", columns, text)
		}
	}
	short := s.text(style{columns: 80})
	if lines := strings.Count(short, "\n"); lines > 10 || strings.Contains(short, "could not be looked into") || !strings.Contains(short, "…\n") {
		t.Errorf("a healthy status is %d lines in 80 columns, want 10 at the most, with command lines cut and without the note:\n%s", lines, short)
	}
	if full := s.text(style{full: true}); !strings.Contains(full, long) || !strings.Contains(full, "could not be looked into") || !strings.Contains(full, "inode") {
		t.Errorf("all of it is\n%s", full)
	}
	if text := broken.text(style{columns: 80}); !strings.Contains(text, "looked into") {
		t.Errorf("where the port is in doubt it is\n%s", text)
	}
}

// TestVerdict: the state of the worker, then what is wrong, then who should not be
// there.
func TestVerdict(t *testing.T) {
	tests := []struct {
		state   string
		problem bool
		worst   api.Role
		want    api.Verdict
	}{
		{"ready", false, "", api.VerdictOK},
		{"ready", true, "", api.VerdictDegraded},
		{"waiting", false, "", api.VerdictWaiting},
		{"waiting", true, "", api.VerdictDegraded},
		{"starting", false, "", api.VerdictStarting},
		{"starting", true, "", api.VerdictStarting},
		{"stopping", false, "", api.VerdictStarting},
		{"backoff", false, "", api.VerdictDegraded},
		{"failed", true, "", api.VerdictDegraded},
		{"failed", true, api.RoleOrphan, api.VerdictOrphan},
		{"ready", true, api.RoleRival, api.VerdictRival},
		{"starting", true, api.RoleForeign, api.VerdictForeign},
	}
	for _, test := range tests {
		s := api.Status{Worker: api.Worker{State: test.state}}
		if test.worst != "" {
			s.Sockets = []api.Socket{{Holders: []api.Holder{{Role: api.RoleForeign}, {Role: test.worst}}}}
		}
		if test.problem {
			s.Problems = []string{"something"}
		}
		if s.SetVerdict(); s.Verdict != test.want {
			t.Errorf("%+v: %s", test, s.Verdict)
		}
	}
}
