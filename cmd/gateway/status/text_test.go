package status

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/cmd/gateway/api"
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
						State: "ready", PID: 834, Generation: 3, Since: ago(5 * time.Minute), ReadyAfterMS: 8123, Handoff: "preload",
						LastExit: &api.Exit{Generation: 2, Code: -1, Signal: "SIGKILL", Reason: "crash", At: *ago(30 * time.Second), Strays: 2},
					},
				}, 0, `
ok: generation 3 serves 127.0.0.1:18789 and [::1]:18789
    socket  127.0.0.1:18789, 12 connections, 0 of 4096 waiting, inode 4711
    socket  [::1]:18789, 0 connections, 0 of 4096 waiting, inode 4711
            systemd   pid 1        root  since 1999-12-29 00:00:00  in init.scope  systemd
            launcher  pid 812      root  since 1999-12-31 22:00:00  in openclaw-gateway.service  gateway run
            worker    pid 834      root  since 1999-12-31 23:00:00  in openclaw-gateway.service  node index.js
      unit  openclaw-gateway.service (system scope), active, main pid 812
  launcher  pid 812, since 1999-12-31 22:00:00 (2 h ago), version v1
    worker  generation 3, pid 834, ready since 1999-12-31 23:55:00 (5 min ago) (ready after 8.1s), handoff preload
 last exit  generation 2 at 1999-12-31 23:59:30 (30 s ago): killed by SIGKILL (crash), left 2 processes, which were killed
    config  /etc/c.yaml, applied
`,
			},
			{
				api.VerdictWaiting, api.Status{
					Unit: api.Unit{Scope: "none"}, Config: api.Config{State: "applied"},
					Sockets: []api.Socket{socket("127.0.0.1:18789", nil, launcher)}, Worker: api.Worker{State: "waiting"},
				}, 0, `
waiting: the first client of 127.0.0.1:18789 starts the worker
    socket  127.0.0.1:18789, connections unknown, 0 of 4096 waiting, inode 4711
            launcher  pid 812      root  since 1999-12-31 22:00:00  in openclaw-gateway.service  gateway run
    config  built-in defaults, applied
`,
			},
			{
				api.VerdictStarting, api.Status{
					Unit: unit, Worker: api.Worker{State: "starting", PID: 834, Generation: 4, Since: ago(0), Handoff: "listen-fds"},
					Notes: []string{"the worker is in another network namespace"},
				}, 0, `
starting: generation 4 is starting, clients of the port wait
      note  the worker is in another network namespace
      unit  openclaw-gateway.service (system scope), active, main pid 812
    worker  generation 4, pid 834, starting since 2000-01-01 00:00:00 (0 s ago), handoff listen-fds
`,
			},
			{
				api.VerdictDegraded, api.Status{
					Problems: []string{"generation 4 ended: exit code 1"}, Unit: unit,
					Worker: api.Worker{
						State: "backoff", Generation: 4, NextStart: ago(-7 * time.Second),
						LastExit: &api.Exit{Generation: 4, Code: 1, Reason: "crash", At: *ago(72 * time.Hour)},
					},
					Config: api.Config{Path: "/etc/c.yaml", State: "rejected"},
				}, 1, `
degraded: generation 4, the worker is in state backoff
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
orphan: an OpenClaw gateway that nobody supervises holds 127.0.0.1:18789
   problem  held by pid 999
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting, inode 4711
            orphan    pid 999      root  since 1999-12-31 23:00:00  child of 1  node old.js
      unit  openclaw-gateway.service (user scope), the service manager does not answer, main pid 0
`,
			},
			{
				api.VerdictRival,
				api.Status{Unit: api.Unit{Scope: "none"}, Unseen: 3, Sockets: []api.Socket{socket("127.0.0.1:18789", &none)}},
				1, `
rival: an OpenClaw gateway of another unit holds 127.0.0.1:18789
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting, inode 4711
            held by a process that cannot be seen from here; its socket was made by root
`,
			},
			{
				api.VerdictForeign,
				api.Status{Unit: api.Unit{Scope: "none"}, Sockets: []api.Socket{socket("127.0.0.1:18789", &none)}},
				1, `
foreign: a process that does not belong to us holds 127.0.0.1:18789
    socket  127.0.0.1:18789, 0 connections, 0 of 4096 waiting, inode 4711
            held outside this PID namespace, or by the kernel; its socket was made by root
`,
			},
			{api.VerdictDown, api.Status{Unit: api.Unit{Scope: "none"}, Problems: []string{"run this"}}, 3, `
down: the launcher is not running
   problem  run this
`},
		}
		for _, test := range tests {
			s := View{Status: test.status}
			s.Verdict = test.verdict
			if diff := cmp.Diff(strings.TrimPrefix(test.want, "\n"), s.text(false)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.verdict, diff)
			}
			if exit := s.ExitStatus(); exit != test.exit {
				t.Errorf("%s exits with %d, want %d", test.verdict, exit, test.exit)
			}
			// Colours add nothing but themselves.
			var out strings.Builder
			_, _ = say.NewWriter(&out).Write([]byte(s.text(true)))
			coloured := out.String()
			if !strings.HasPrefix(coloured, "\x1b[") {
				t.Errorf("%s has no colour: %q", test.verdict, coloured)
			}
			for _, c := range []say.Colour{say.Bold, say.Dim, say.Red, say.Green, say.Yellow, say.Cyan, "0"} {
				coloured = strings.ReplaceAll(coloured, "\x1b["+string(c)+"m", "")
			}
			if coloured != s.text(false) {
				t.Errorf("%s without its colours is\n%q", test.verdict, coloured)
			}
		}
	})
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
