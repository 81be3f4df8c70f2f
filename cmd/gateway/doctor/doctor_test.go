package doctor

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/kernel"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

var (
	ipv4 = netaddr.MustParse("127.0.0.1:18789")
	ipv6 = netaddr.MustParse("[::1]:18789")
)

// healthy is a machine on which the system's launcher serves OpenClaw, as seen by
// root.
func healthy(t *testing.T) *Facts {
	t.Helper()
	loaded := config.Default()
	loaded.Worker.Command = []string{"/usr/bin/node", fixtures.OpenClaw(t), "gateway", "run", "--port", "18789", "--bind", "loopback"}
	loaded.Worker.Environment = []string{"OPENCLAW_GATEWAY_PORT=18789"}
	loaded.Source = map[string]string{"worker.command": "/etc/openclaw-gateway/config.yaml:2"}
	launcher := &api.Status{Version: "1.0.0"}
	launcher.Launcher.PID, launcher.Launcher.Holder = 100, "systemd"
	launcher.Worker.State, launcher.Worker.PID, launcher.Worker.Generation = "ready", 101, 1
	launcher.Config.State, launcher.Config.Path = "applied", "/etc/openclaw-gateway/config.yaml"
	facts := &Facts{&gather.Facts{
		Asker: holders.Asker{Program: "gateway"}, Executable: "/usr/local/bin/gateway", Version: "1.0.0",
		Systemd: 252, Somaxconn: 4096, Kernel: "6.1",
		Wanted: []netaddr.Address{ipv4, ipv6},
		Scopes: []gather.Scope{{
			Name: units.System,
			Socket: gather.Unit{
				Name: instance.Default.Socket(), LoadState: "loaded", FileState: "enabled", ActiveState: "active", SubState: "running", Result: "success",
				Path: "/etc/systemd/system/" + instance.Default.Socket(), Listen: []netaddr.Address{ipv4, ipv6}, Backlog: 4096,
			},
			Service: gather.Unit{
				Name: instance.Default.Service(), LoadState: "loaded", FileState: "disabled", ActiveState: "active", SubState: "running", Result: "success",
				Path: "/etc/systemd/system/" + instance.Default.Service(), MainPID: 100, Cgroup: "/system.slice/" + instance.Default.Service(), Delegate: true,
				Argv: []string{"/usr/local/bin/gateway", "run", "--config", "/etc/openclaw-gateway/config.yaml"},
			},
			Config: gather.Config{
				Path: "/etc/openclaw-gateway/config.yaml", Loaded: loaded,
				Node: gather.Node{Program: "/usr/bin/node", Version: "v24.21.0", Range: ">=24.16.0 <25 || >=26.1.0", OpenClaw: "2026.9.6"},
			},
			Answer: gather.Answered, Launcher: launcher, Listener: gather.Listener{PID: 100},
			Worker: gather.Worker{Cgroup: "/system.slice/" + instance.Default.Service() + "/generation-1"},
		}},
	}}
	for i, address := range facts.Wanted {
		facts.Sockets = append(facts.Sockets, holders.Socket{
			Socket: sockdiag.Socket{Address: address, Inode: uint64(i + 1), Backlog: 4096, Exact: true},
			Holders: []holders.Holder{
				{Process: proctree.Process{PID: 1, Name: "systemd"}, Role: api.RoleSystemd},
				{Process: proctree.Process{PID: 100}, Role: api.RoleLauncher},
				{Process: proctree.Process{PID: 101}, Role: api.RoleWorker},
			},
		})
	}
	return facts
}

// add lets a process hold the first address, or both.
func add(f *Facts, holder holders.Holder, sockets int) {
	for i := range sockets {
		f.Sockets[i].Holders = append(f.Sockets[i].Holders, holder)
		f.Sockets[i].Wanted = []netaddr.Address{f.Sockets[i].Address}
	}
}

// closed takes the port from the socket unit.
func closed(f *Facts, state, result string) *gather.Scope {
	s := &f.Scopes[0]
	s.Socket.ActiveState, s.Socket.Result, s.Service.ActiveState = state, result, "inactive"
	s.Service.MainPID, s.Launcher, s.Answer, s.Worker = 0, nil, gather.Absent, gather.Worker{}
	if state != "active" {
		f.Sockets = []holders.Socket{}
	}
	return s
}

// replaced has OpenClaw's own service in the place of ours.
func replaced(s *gather.Scope) *gather.Scope {
	s.Service = gather.Unit{Name: instance.Default.Service(), LoadState: "loaded", FileState: "disabled", Path: "/x/openclaw-gateway.service"}
	s.OpenClaw = []gather.Unit{s.Service}
	return s
}

// stock has OpenClaw's own service, and nothing of ours.
func stock(f *Facts) {
	s := closed(f, "inactive", "")
	s.Socket, s.Service = gather.Unit{}, gather.Unit{}
	s.OpenClaw = []gather.Unit{{Name: "claw.service", FileState: "enabled", Marked: true, Argv: s.Config.Loaded.Worker.Command}}
}

// taken lets a process have the port, instead of the socket unit.
func taken(f *Facts, holder holders.Holder) {
	f.Sockets = []holders.Socket{{Socket: sockdiag.Socket{Address: ipv4, Inode: 9, UID: holder.UID, Exact: true}, Holders: []holders.Holder{holder}, Wanted: []netaddr.Address{ipv4}}}
}

func userUnits(f *Facts, state string) *gather.Scope {
	own := f.Scopes[0]
	own.Name, own.Manager, own.User = units.User, systemd.Manager{User: true, UID: f.UID}, "alice"
	own.Socket.ActiveState, own.Socket.Path = state, "/home/alice/.config/systemd/user/"+instance.Default.Socket()
	own.Service.ActiveState, own.Service.MainPID = "inactive", 0
	own.Launcher, own.Answer, own.Worker = nil, gather.Absent, gather.Worker{}
	f.Scopes = append(f.Scopes, own)
	return &f.Scopes[1]
}

var orphan = holders.Holder{Process: proctree.Process{PID: 4711}, Command: "node openclaw gateway", Role: api.RoleOrphan, Why: "it is an OpenClaw gateway that no unit keeps running"}

// situation is a change that brings about a kind of finding, with a part of its
// summary and, where it is short, the fix.
type situation struct {
	id, says, fix string
	change        func(*Facts)
}

var situations = []situation{
	{"adoption-unfinished", "the adoption of claw.service, begun at", "gateway adopt --undo --user --name work", func(f *Facts) {
		f.UID = 1000
		own := systemd.Manager{User: true, UID: f.UID}
		f.Halves = []gather.Half{{Half: journal.Half{Instance: "openclaw-gateway-work", Old: "claw.service"}, Scope: units.User, Manager: own}}
	}},
	{"port-held-by-orphan", "127.0.0.1:18789 is held by pid 4711", "gateway reclaim 127.0.0.1:18789", func(f *Facts) { add(f, orphan, 1) }},
	{"port-held-by-orphan", "127.0.0.1:18789 and [::1]:18789 are held", "gateway reclaim 127.0.0.1:18789 '[::1]:18789'", func(f *Facts) { add(f, orphan, 2) }},
	{"port-held-by-orphan", "pid 4711", "gateway reclaim 127.0.0.1:18789", func(f *Facts) { // before anything is installed
		f.Scopes = []gather.Scope{{Name: units.System}}
		taken(f, orphan)
	}},
	{"port-held-by-rival", "that claw.service keeps running", "systemctl disable --now claw.service", func(f *Facts) {
		add(f, holders.Holder{Process: proctree.Process{PID: 5}, Role: api.RoleRival, RunBy: holders.RunBy{Unit: "claw.service", Enabled: true}, Why: "it is an OpenClaw gateway that claw.service keeps running"}, 1)
	}},
	{"port-held-by-rival", "pid 5", "systemctl stop run-u1.service", func(f *Facts) {
		add(f, holders.Holder{Process: proctree.Process{PID: 5}, Role: api.RoleRival, RunBy: holders.RunBy{Unit: "run-u1.service"}}, 1)
	}},
	{"port-held-by-foreign", "it is no OpenClaw gateway", "gateway reclaim --force 127.0.0.1:18789", func(f *Facts) {
		add(f, holders.Holder{Process: proctree.Process{PID: 5}, InUnit: "session-1.scope", Role: api.RoleForeign, Why: "it is no OpenClaw gateway"}, 1)
	}},
	{"port-held-by-foreign", "pid 5", "systemctl stop nginx.service", func(f *Facts) {
		add(f, holders.Holder{Process: proctree.Process{PID: 5}, InUnit: "nginx.service", Role: api.RoleForeign, RunBy: holders.RunBy{Unit: "nginx.service"}}, 1)
	}},
	{"port-held-by-foreign", "for another socket unit, other.socket", "systemctl disable --now other.socket", func(f *Facts) {
		closed(f, "inactive", "success").Socket.FileState = "disabled"
		f.Scopes[0].Sockets = append(f.Scopes[0].Sockets, gather.Unit{Name: "other.socket", ActiveState: "active", FileState: "enabled", Listen: []netaddr.Address{ipv4}})
		taken(f, holders.Holder{Process: proctree.Process{PID: 1}, Role: api.RoleSystemd})
	}},
	{"port-held-by-foreign", "for another socket unit, other.socket of user alice", "systemctl --user disable --now other.socket", func(f *Facts) {
		f.UID = os.Geteuid()
		f.Scopes = []gather.Scope{{
			Name: units.User, Manager: systemd.Manager{User: true, UID: f.UID}, User: "alice",
			Sockets: []gather.Unit{{Name: "other.socket", ActiveState: "active", FileState: "enabled", Listen: []netaddr.Address{ipv4}}},
		}}
		taken(f, holders.Holder{})
		f.Sockets[0].Holders, f.Sockets[0].UID = nil, uint32(f.UID)
	}},
	{"port-holder-unseen", "user root that cannot be seen", "sudo gateway reclaim --dry-run 127.0.0.1:18789", func(f *Facts) {
		f.UID = 1000 // whose unit wants the address, and does not have it
		f.Scopes = []gather.Scope{{
			Name: units.User, Manager: systemd.Manager{User: true, UID: 1000}, User: "alice",
			Sockets: []gather.Unit{{Name: "other.socket", ActiveState: "active", FileState: "enabled", Listen: []netaddr.Address{ipv4}}},
		}}
		taken(f, holders.Holder{})
		f.Sockets[0].Holders = nil
	}},
	{"port-holder-unseen", "user root that cannot be seen from here, in another PID namespace or by the kernel: look on the host", "ss -tanp 'sport = :18789'", func(f *Facts) {
		closed(f, "inactive", "success").Socket.FileState = "disabled"
		taken(f, holders.Holder{})
		f.Sockets[0].Holders = nil
	}},
	{"port-holder-unseen", "user root that cannot be seen", "sudo gateway reclaim --dry-run 127.0.0.1:18789", func(f *Facts) {
		f.UID = 1000
		f.Scopes = nil
		taken(f, holders.Holder{})
		f.Sockets[0].Holders = nil
	}},
	{"two-scopes-one-port", "want 127.0.0.1:18789 and [::1]:18789", "systemctl --user disable --now openclaw-gateway.socket openclaw-gateway.service", func(f *Facts) {
		userUnits(f, "failed").Socket.Result = "success"
	}},
	{"two-scopes-one-port", "want 127.0.0.1:18789", "systemctl disable --now openclaw-gateway.socket openclaw-gateway.service", func(f *Facts) {
		userUnits(f, "active")
		f.Scopes[0].Socket.ActiveState = "inactive"
	}},
	{"state-shared", "openclaw-gateway.service of the system scope and openclaw-gateway-second.service of the system scope run an OpenClaw on the same state directory, /x/.openclaw", `"${EDITOR:-vi}" /x/second.yaml`, func(f *Facts) {
		second := f.Scopes[0]
		second.Instance, second.Launcher, second.Config.Path = "second", nil, "/x/second.yaml"
		second.Socket.Listen, second.Config.Loaded = nil, nil
		f.Scopes = append(f.Scopes, second)
		for i := range f.Scopes {
			f.Scopes[i].Config.StateDir = "/x/.openclaw"
		}
	}},
	{"openclaw-unit-enabled", "OpenClaw's own claw.service of the system scope", "systemctl disable --now claw.service", func(f *Facts) {
		f.Scopes[0].OpenClaw = []gather.Unit{{Name: "claw.service", FileState: "enabled"}}
	}},
	{"openclaw-unit-enabled", "without a launcher: `gateway adopt` puts it behind one", "systemctl disable --now claw.service", func(f *Facts) {
		s := closed(f, "inactive", "")
		s.Socket, s.Service, s.OpenClaw = gather.Unit{}, gather.Unit{}, []gather.Unit{{Name: "claw.service", FileState: "enabled"}}
	}},
	{"openclaw-unit-enabled", "the command puts it behind one, and with --dry-run it says how; `systemctl disable --now claw.service` ends it", "gateway adopt claw.service --system", func(f *Facts) {
		stock(f)
	}},
	{"openclaw-unit-enabled", "claw.service", "systemctl stop claw.service", func(f *Facts) {
		f.Scopes[0].OpenClaw = []gather.Unit{{Name: "claw.service", FileState: "transient", MainPID: 7}}
	}},
	{"openclaw-unit-enabled", "in the place of ours", "mv /x/openclaw-gateway.service /x/openclaw-gateway.service.bak && gateway install --system --run-as root && systemctl restart openclaw-gateway.service", func(f *Facts) {
		replaced(closed(f, "active", "success"))
	}},
	{"openclaw-unit-enabled", "clients hang", "systemctl disable openclaw-gateway.service && mv /x/openclaw-gateway.service /x/openclaw-gateway.service.bak && " +
		"gateway install --system --run-as claw --config /x/claw.yaml --hardened && systemctl restart openclaw-gateway.service", func(f *Facts) {
		s := replaced(closed(f, "active", "success"))
		s.Service.FileState, s.Before = "enabled", units.Choice{RunAs: "claw", Config: "/x/claw.yaml", Hardened: true}
		add(f, holders.Holder{Process: proctree.Process{PID: 7}, Role: api.RoleRival, RunBy: holders.RunBy{Unit: instance.Default.Service(), Enabled: true}}, 2)
	}},
	{"openclaw-unit-enabled", "in the place of ours", "gateway install --system --run-as root && systemctl restart openclaw-gateway.service", func(f *Facts) {
		s := replaced(closed(f, "active", "success"))
		s.Service.FileState, s.Service.Gone, s.Service.Reload = "bad", true, true
	}},
	{"openclaw-unit-enabled", "in the place of ours", "systemctl stop openclaw-gateway.socket openclaw-gateway.service && mv /x/openclaw-gateway.service /x/openclaw-gateway.service.bak && " +
		"gateway install --system --now --run-as root", func(f *Facts) {
		replaced(closed(f, "failed", "service-start-limit-hit"))
	}},
	{"service-missing", "the next client cannot start it", "gateway install --system --run-as root", func(f *Facts) {
		s := &f.Scopes[0]
		s.Service.Gone, s.Service.Reload, s.Service.FileState = true, true, "bad"
	}},
	{"service-missing", "the socket has failed", "gateway install --system --now --run-as nobody", func(f *Facts) {
		s := closed(f, "failed", "resources")
		s.Service, s.Before.RunAs = gather.Unit{Name: instance.Default.Service(), LoadState: "not-found", ActiveState: "inactive"}, "nobody"
	}},
	{"user-missing", "runs as user nobody-at-all, and there is no such user", "gateway uninstall --system", func(f *Facts) {
		f.Scopes[0].Service.User = "nobody-at-all"
	}},
	{"openclaw-restarted", "PM2, pid 12 of user root, starts an OpenClaw gateway again and again, at the moment pid 4711", "kill 12", func(f *Facts) {
		f.Waiting = []holders.Holder{{Process: proctree.Process{PID: 4711}, RunBy: holders.RunBy{Restarter: &holders.Restarter{PID: 12, What: "PM2"}}}}
	}},
	{"unit-overridden", "/x.d/x.conf for openclaw-gateway of the system scope: RestartSec=60: clients wait; Accept=yes: nobody is served; the command takes", "sed -i.bak -E 's/^[[:space:]]*(RestartSec|Accept)[[:space:]]*=/#&/' /x.d/x.conf && systemctl daemon-reload && systemctl restart openclaw-gateway.socket", func(f *Facts) {
		s := closed(f, "failed", "resources")
		over := dropins.Override{Unit: instance.Default.Service(), Setting: "RestartSec", Names: []string{"RestartSec"}, Line: "RestartSec=60", Does: "clients wait", Files: []string{"/x.d/x.conf"}, Folder: "/x.d"}
		s.Overrides = append(s.Overrides, over)
		over.Unit, over.Setting, over.Names, over.Line, over.Does, over.Broken, over.Restart = instance.Default.Socket(), "Accept", []string{"Accept"}, "Accept=yes", "nobody is served", true, true
		s.Overrides = append(s.Overrides, over)
	}},
	{"socket-not-enabled", "is disabled: after a boot nobody opens the port", "systemctl enable --now openclaw-gateway.socket", func(f *Facts) {
		f.Scopes[0].Socket.FileState = "disabled"
	}},
	{"socket-not-enabled", "is masked", "systemctl unmask openclaw-gateway.socket && gateway install --system --now", func(f *Facts) {
		f.Scopes[0].Socket.FileState, f.Scopes[0].Socket.LoadState = "masked", "masked"
	}},
	{"socket-not-enabled", "is missing", "gateway install --system --now", func(f *Facts) { f.Scopes[0].Socket = gather.Unit{LoadState: "not-found"} }},
	{"socket-not-active", "is stopped", "systemctl start openclaw-gateway.socket", func(f *Facts) { closed(f, "inactive", "success") }},
	{"socket-port-taken", "the port is held by pid 4711 (orphan)", "gateway reclaim 127.0.0.1:18789 && systemctl start openclaw-gateway.socket", func(f *Facts) {
		closed(f, "failed", "resources")
		taken(f, orphan)
	}},
	{"socket-port-taken", "the port is held by other.socket", "systemctl disable --now other.socket && systemctl start openclaw-gateway.socket", func(f *Facts) {
		s := closed(f, "failed", "resources")
		s.Sockets = append(s.Sockets, gather.Unit{Name: "other.socket", ActiveState: "active", FileState: "enabled", Listen: []netaddr.Address{ipv4}})
		taken(f, holders.Holder{Process: proctree.Process{PID: 1}, Role: api.RoleSystemd})
	}},
	{"socket-port-taken", "the port is held by another socket unit", "systemctl start openclaw-gateway.socket", func(f *Facts) {
		closed(f, "failed", "resources")
		taken(f, holders.Holder{Process: proctree.Process{PID: 1}, Role: api.RoleSystemd})
	}},
	{"socket-port-taken", "the port is held by openclaw-gateway.socket of user alice", "systemctl disable --now openclaw-gateway.socket openclaw-gateway.service", func(f *Facts) {
		closed(f, "failed", "resources")
		userUnits(f, "active")
		taken(f, holders.Holder{Process: proctree.Process{PID: 8}, UID: uint32(f.UID), Role: api.RoleLauncher})
	}},
	{"socket-port-taken", "or could not start its service: nobody holds them that can be seen. If it fails again, `systemctl status openclaw-gateway.socket` says why", "systemctl start openclaw-gateway.socket", func(f *Facts) { closed(f, "failed", "resources") }},
	{"service-failed", "systemd does not start openclaw-gateway.service of the system scope without nope.service (not-found): mend that", "systemctl status nope.service", func(f *Facts) {
		closed(f, "failed", "resources").Service.Lacks = []string{"nope.service (not-found)"}
	}},
	{"service-failed", "without db.service (failed)", "systemctl status db.service", func(f *Facts) {
		s := &f.Scopes[0]
		s.Launcher, s.Service.ActiveState, s.Service.MainPID, s.Service.Lacks = nil, "inactive", 0, []string{"db.service (failed)"}
	}},
	{"socket-start-limit", "openclaw-gateway.socket of the system scope was started too often", "systemctl reset-failed openclaw-gateway.socket && systemctl start openclaw-gateway.socket", func(f *Facts) {
		closed(f, "failed", "start-limit-hit")
	}},
	{"socket-start-limit", "openclaw-gateway.service of the system scope was started too often", "systemctl reset-failed openclaw-gateway.socket openclaw-gateway.service && systemctl start openclaw-gateway.socket", func(f *Facts) {
		closed(f, "failed", "service-start-limit-hit")
	}},
	{"socket-trigger-limit", "too often", "systemctl reset-failed openclaw-gateway.socket openclaw-gateway.service && systemctl start openclaw-gateway.socket", func(f *Facts) {
		closed(f, "failed", "trigger-limit-hit")
	}},
	{"socket-failed", "(timeout)", "systemctl reset-failed openclaw-gateway.socket && systemctl start openclaw-gateway.socket", func(f *Facts) { closed(f, "failed", "timeout") }},
	{"socket-failed", "(bad-setting)", "gateway install --system --now", func(f *Facts) { closed(f, "inactive", "success").Socket.LoadState = "bad-setting" }},
	{"address-not-open", "nobody listens on [::1]:18789", "systemctl restart openclaw-gateway.socket", func(f *Facts) { f.Sockets = f.Sockets[:1] }},
	{"service-failed", "ends as soon as systemd starts it: its program cannot be executed, /usr/local/bin/gateway", "gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		service := &closed(f, "active", "success").Service
		service.ActiveState, service.SubState, service.ExitStatus = "activating", "auto-restart", 203
	}},
	{"service-failed", "has failed", "systemctl reset-failed openclaw-gateway.service && systemctl start openclaw-gateway.service", func(f *Facts) {
		closed(f, "active", "success").Service.ActiveState = "failed"
	}},
	{"listen-differs", "lacks 127.0.0.1:9 and has [::1]:18789, which the worker does not get", "gateway install --system", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Listen = []netaddr.Address{ipv4, netaddr.MustParse("127.0.0.1:9")}
	}},
	{"listen-differs", "still has unix:/home/other/app.sock: ", "gateway install --system", func(f *Facts) { misplaced(f).Config.Loaded.Listen = f.Wanted[:2] }},
	{"unix-socket-unsafe", "(/home/other belongs to user other), and systemd, which makes and removes the file there, is root: name a path in listen whose " +
		"folders are root's alone, such as unix:/run/openclaw-gateway.sock", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml && gateway install --system`, func(f *Facts) { misplaced(f) }},
	// What is in listen alone "gateway install" refuses, so root is not told to run that.
	{"unix-socket-unsafe", "others than root decide what lies at the path of unix:/home/other/app.sock", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`, func(f *Facts) {
		s := misplaced(f)
		s.Socket.Listen = s.Socket.Listen[:2]
	}},
	{"unit-changed-on-disk", "has not read", "systemctl daemon-reload", func(f *Facts) { f.Scopes[0].Service.Reload = true }},
	{"main-pid-not-launcher", "is 99, and the launcher that answers is 100", "gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) { f.Scopes[0].Service.MainPID = 99 }},
	{"main-pid-not-launcher", "started by hand, pid 100", "kill 100", func(f *Facts) {
		f.Scopes[0].Service.MainPID, f.Scopes[0].Launcher.Launcher.Holder = 0, "self"
	}},
	{"main-pid-not-launcher", "a process of user 4000000, pid 7, has replaced the control socket", "systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Launcher, f.Scopes[0].Answer, f.Scopes[0].Listener = nil, gather.Foreign, gather.Listener{PID: 7, UID: 4000000}
	}},
	{"launcher-not-answering", "pid 100, hangs", "systemctl kill --kill-whom=main --signal=KILL openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Launcher, f.Scopes[0].Answer = nil, gather.Hung
	}},
	{"launcher-not-answering", "started by hand, pid 7, hangs", "kill -KILL 7", func(f *Facts) {
		s := closed(f, "inactive", "success")
		s.Answer, s.Listener, s.Socket.FileState = gather.Hung, gather.Listener{PID: 7}, "disabled"
	}},
	{"launcher-not-answering", "started by hand, pid 7, was stopped with Ctrl-Z", "sudo kill 7 && sudo kill -CONT 7", func(f *Facts) {
		s := closed(f, "inactive", "success")
		s.Answer, s.Listener, s.Socket.FileState, f.UID = gather.Hung, gather.Listener{PID: 7, Stopped: true}, "disabled", 1000
	}},
	{"launcher-not-answering", "has no control socket", "systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Launcher, f.Scopes[0].Answer = nil, gather.Absent
	}},
	{"launcher-version", "version 0.9.0, this program is 1.0.0", "gateway upgrade --system", func(f *Facts) { f.Scopes[0].Launcher.Version = "0.9.0" }},
	{"launcher-version", "version 0.2.0+abc", "gateway upgrade --system", func(f *Facts) { // of a commit, waiting
		f.Scopes[0].Launcher.Version, f.Scopes[0].Launcher.Worker.State = "0.2.0+abc", api.StateWaiting
	}},
	{"launcher-version", "version 0.1.9", "systemctl restart openclaw-gateway.service", func(f *Facts) { f.Scopes[0].Launcher.Version = "0.1.9" }},     // does not know how
	{"launcher-version", "version 1.0.1", "systemctl restart openclaw-gateway.service", func(f *Facts) { f.Scopes[0].Launcher.Version = "1.0.1" }},     // refuses an older one
	{"launcher-version", "version unknown", "systemctl restart openclaw-gateway.service", func(f *Facts) { f.Scopes[0].Launcher.Version = "unknown" }}, // says nothing of it
	{"launcher-version", "version 0.9.0", "gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Launcher.Version, f.Scopes[0].Service.Argv[0] = "0.9.0", "/opt/gateway"
	}},
	{"launcher-name", "is named openclaw-start", "gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Service.Argv[0] = "/opt/openclaw-start"
	}},
	{"launcher-name", "is named openclaw-start", "install -m 755 /opt/openclaw-start /usr/local/bin/gateway && /usr/local/bin/gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Service.Argv[0], f.Program, f.Executable = "/opt/openclaw-start", "/opt/openclaw-start", "/opt/openclaw-start"
	}},
	{"program-replaceable", "others than root can replace /home/claw/gateway: /home/claw belongs to user claw: openclaw-gateway.socket of the system scope starts it as root", "gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Replaceable = &read.OthersError{Path: "/home/claw/gateway", At: "/home/claw", Why: "belongs to user claw", UID: 1000}
	}},
	{"program-replaceable", "", "install -m 755 /home/claw/gateway /usr/local/bin/gateway && /usr/local/bin/gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Replaceable = &read.OthersError{Path: "/home/claw/gateway", At: "/home/claw", UID: 1000}
		f.Replaceable, f.Executable, f.Program = f.Scopes[0].Replaceable, "/home/claw/gateway", "/home/claw/gateway"
	}},
	{"program-replaceable", "everybody", "chmod go-w /usr/local/bin && /usr/local/bin/gateway install --system && systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Replaceable = &read.OthersError{Path: "/usr/local/bin/gateway", At: "/usr/local/bin", Why: "can be written to by everybody"}
		f.Replaceable = f.Scopes[0].Replaceable
	}},
	{"program-replaceable", "", "sudo chown root: /usr/local/bin/gateway && sudo chmod go-w /usr/local/bin/gateway && sudo /usr/local/bin/gateway install --system && sudo systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Replaceable = &read.OthersError{Path: "/usr/local/bin/gateway", At: "/usr/local/bin/gateway", UID: 1000}
		f.Replaceable, f.UID = f.Scopes[0].Replaceable, 1000
	}},
	{"launcher-name", "command line looks like", "systemctl edit --full openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Service.Argv = []string{"/usr/local/bin/gateway", "gateway", "/x/dist/index.js"}
	}},
	{"no-delegated-cgroup", "may not make control groups", "", func(f *Facts) { f.Scopes[0].Service.Delegate = false }},
	{"no-delegated-cgroup", "may not make control groups", "", func(f *Facts) { f.Scopes[0].Worker.Cgroup = f.Scopes[0].Service.Cgroup }},
	{"worker-outside-cgroup", "pid 101, has left", "gateway restart --system", func(f *Facts) { f.Scopes[0].Worker.Cgroup = "/user.slice" }},
	{"worker-other-port", "worker.command (config.yaml:2) makes OpenClaw listen on port 9999, and listen has 127.0.0.1:18789 and [::1]:18789: write port 18789 instead of 9999 there", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`, func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command[5] = "9999"
	}},
	{"worker-other-port", "worker.command (config.yaml:2) makes OpenClaw listen on port 9999, and listen has", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`, func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/bin/sh", "-c", "exec openclaw gateway --port 9999"}
	}},
	{"worker-other-port", "/start.sh makes OpenClaw listen on port 9999, and listen has", "", func(f *Facts) {
		command := &f.Scopes[0].Config.Loaded.Worker.Command
		script := filepath.Join(filepath.Dir((*command)[1]), "start.sh")
		if err := os.WriteFile(script, []byte("#!/bin/sh\nexec openclaw gateway --port 9999\n"), 0o755); err != nil {
			panic(err)
		}
		*command = []string{script}
	}},
	{"worker-other-port", "worker.environment makes OpenClaw listen on port 9999", "", func(f *Facts) {
		worker := &f.Scopes[0].Config.Loaded.Worker
		worker.Command, worker.Environment = slices.Delete(worker.Command, 4, 6), []string{"OPENCLAW_GATEWAY_PORT=9999"}
	}},
	{"worker-other-port", "pid 101, listens on 127.0.0.1:8080", "", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.State = "starting"
		f.Scopes[0].Worker.Elsewhere = []netaddr.Address{netaddr.MustParse("127.0.0.1:8080")}
	}},
	{"worker-address-clash", "with --bind lan OpenClaw binds 0.0.0.0:18789, which overlaps 127.0.0.1:18789", "", func(f *Facts) {
		command := f.Scopes[0].Config.Loaded.Worker.Command
		command[len(command)-1] = "lan"
	}},
	{"worker-address-clash", "with --bind lan OpenClaw binds 0.0.0.0:18789, which overlaps 127.0.0.1:18789", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/bin/sh", "-c", "exec openclaw gateway --bind lan"}
	}},
	{"at-once-not-enabled", "after a boot the worker starts with the first client", "gateway install --system", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Start = "at-once"
	}},
	{"at-once-not-enabled", "is on-demand, and", "systemctl disable openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Service.FileState = "enabled"
	}},
	{"worker-failed", "no worker is started any more", "gateway restart --system", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.State = "failed"
		f.Scopes[0].Launcher.Worker.LastExit = &api.Exit{Generation: 3, Code: 78, Reason: "crash"}
	}},
	{"worker-restarting", "waits before it starts the next one: the journal says why; when that is mended, `gateway restart --system`", "gateway logs --system", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.State = "backoff"
	}},
	{"worker-hung", "the worker, pid 200, does not serve: it hangs, or is full", "gateway restart --system", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.PID, f.Scopes[0].Launcher.Worker.Hung = 200, &api.Hung{By: "queue"}
	}},
	{"worker-hung", "was stopped by a signal", "gateway restart --system", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.Hung, f.Scopes[0].Worker.Stopped = &api.Hung{By: "queue"}, true
	}},
	{"worker-program-missing", "is not there", "", func(f *Facts) {
		f.Scopes[0].Config.Missing, f.Scopes[0].Config.MissingAt = "/usr/bin/node is not there", "worker.command"
	}},
	{"alarm-program-missing", "alarm.command", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Alarm.Command, f.Scopes[0].Config.NoAlarm = []string{"ring"}, "it is not there"
	}},
	{"worker-other-port", "worker.command (config.yaml:2) has --port 9999, and listen has 127.0.0.1:18789 and [::1]:18789: if that is the port on which it listens", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/usr/bin/server", "--port=9999"}
		f.Scopes[0].Launcher = nil
	}},
	{"worker-runs-bun", "/usr/bin/bun is Bun, which cannot inherit sockets: name Node.js in worker.command (config.yaml:2), or make worker.handoff", "", func(f *Facts) {
		f.Scopes[0].Config.Bun, f.Scopes[0].Launcher.Worker.State = "/usr/bin/bun", "starting"
	}},
	{"worker-runs-bun", "unless it starts something else", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/usr/bin/bun", "server.js"}
		f.Scopes[0].Config.Bun, f.Scopes[0].Launcher = "/usr/bin/bun", nil
	}},
	{"worker-unprivileged", "sudo, su, ping and rootless containers do not work in it: if it needs none of them, make worker.handoff", "", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.NoNewPrivs = true
	}},
	{"prewarm-not-used", "without restart.prewarm: generation 3: it is broken", "", func(f *Facts) {
		f.Scopes[0].Launcher.Notes = []string{api.SaysCold + "generation 3: it is broken"}
	}},
	{"environment-unreadable", "worker.environment_file cannot be used: open /etc/x.env: permission denied", "", func(f *Facts) {
		f.Scopes[0].Config.Environment = "open /etc/x.env: permission denied"
	}},
	{"environment-doubtful", "worker.environment_file: /etc/x.env:3 is not NAME=value; /etc/y.env is empty", `"${EDITOR:-vi}" /etc/x.env`, func(f *Facts) {
		f.Scopes[0].Config.Oddities = []config.Oddity{{File: "/etc/x.env", Line: 3, Is: "is not NAME=value"}, {File: "/etc/y.env", Is: "is empty"}}
	}},
	{"node-too-old", "/usr/bin/node is Node.js v22.19.0, and OpenClaw 2026.9.6 needs >=24.16.0 <25 || >=26.1.0", "", func(f *Facts) {
		f.Scopes[0].Config.Node.Version = "v22.19.0"
	}},
	{"node-too-old", "v25.9.9", "", func(f *Facts) { f.Scopes[0].Config.Node.Version = "v25.9.9" }},
	{"handover-exclusive", "clients wait for the whole start at a restart, in spite of restart.mode", "", func(f *Facts) {
		f.Scopes[0].Launcher.HandoverObstacle = "nothing can hold a worker"
	}},
	{"standby-missing", "after a crash clients wait for the whole start, in spite of restart.standby", "", func(f *Facts) {
		f.Scopes[0].Launcher.StandbyObstacle = "generation 8 ended: exit code 1"
	}},
	{"exit-0-waits", "restart.after_exit_0: OpenClaw ends with exit code 0 when it wants to be restarted", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Restart.AfterExit0 = config.AfterExit0Wait
	}},
	{"exit-0-waits", "restart.after_exit_0: OpenClaw ends with exit code 0 when it wants to be restarted", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Restart.AfterExit0 = config.AfterExit0Wait
		f.Scopes[0].Config.Loaded.Worker.Command = append([]string{"nice"}, f.Scopes[0].Config.Loaded.Worker.Command...)
	}},
	{"exit-0-waits", "worker.start is at-once", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Restart.AfterExit0, f.Scopes[0].Config.Loaded.Worker.Start = config.AfterExit0Wait, config.StartAtOnce
		f.Scopes[0].Config.Loaded.Worker.Command, f.Scopes[0].Service.FileState = []string{"/bin/other"}, "enabled"
	}},
	{"sockets-lost", "npm starts another Node.js", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/bin/sh", "-c", "cd /srv && npm start"}
	}},
	{"sockets-lost", "sudo passes no sockets on", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"sudo", "-u", "x", "/srv/server"}
	}},
	{"unix-socket-place", "there is no group nobody-at-all, who shall have unix:/run/app.sock: make it, or name another", "", func(f *Facts) {
		address := netaddr.Unix("/run/app.sock")
		f.Scopes[0].Config.Loaded.Listen = append(f.Scopes[0].Config.Loaded.Listen, address)
		f.Scopes[0].Socket.Listen = append(f.Scopes[0].Socket.Listen, address)
		f.Scopes[0].Config.Loaded.Access = map[netaddr.Address]netaddr.Access{address: {Group: "nobody-at-all"}}
		f.Sockets = append(f.Sockets, f.Sockets[0])
		f.Sockets[len(f.Sockets)-1].Address = address
	}},
	{"stop-not-graceful", "stop.signal: at SIGTERM php-fpm8.2 drops the requests that it has begun: write SIGQUIT", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded.Worker.Command = []string{"/usr/sbin/php-fpm8.2", "-F"}
	}},
	{"openclaw-replaced", "OpenClaw 2026.8.4 runs, and 2026.9.6 is installed", "gateway restart --system", func(f *Facts) {
		f.Scopes[0].Launcher.Worker.OpenClaw, f.Scopes[0].Config.Installed = &api.OpenClaw{Version: "2026.8.4", Entry: "/x/dist/index.js"}, "2026.9.6"
	}},
	{"config-invalid", "has 2 mistakes; the last configuration that worked is in use", "", func(f *Facts) {
		f.Scopes[0].Config.Loaded, f.Scopes[0].Config.Mistakes = nil, []string{"config.yaml:2: one", "config.yaml:7: two"}
		f.Scopes[0].Launcher.Config.State = "rejected"
	}},
	{"config-rejected", "was not applied", "", func(f *Facts) { f.Scopes[0].Launcher.Config.State = "rejected" }},
	{"config-rejected", "GATEWAY_READY_TIMEOUT in the environment of openclaw-gateway.service of the system scope is wrong, and wins over the file: `systemctl cat openclaw-gateway.service`", "systemctl edit openclaw-gateway.service && systemctl restart openclaw-gateway.service", wrongVariable},
	{"config-rejected", "GATEWAY_READY_TIMEOUT in the environment of the launcher, pid 20, is wrong", "grep -az '^GATEWAY_READY_TIMEOUT=' /proc/20/environ", func(f *Facts) {
		wrongVariable(f)
		s := &f.Scopes[0]
		s.Socket, s.Service, s.Launcher.Launcher.PID = gather.Unit{}, gather.Unit{}, 20
	}},
	{"worker-failed", "none that has worked is known", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`, func(f *Facts) {
		f.Scopes[0].Launcher.Worker.State, f.Scopes[0].Launcher.Problems = "failed", []string{api.SaysRefused + "c.yaml:2: x"}
	}},
	{"secrets-readable", "/etc/secret.env can be read by every user", "chmod 600 /etc/secret.env", func(f *Facts) {
		f.Scopes[0].Config.Exposed = []gather.Exposed{{Path: "/etc/secret.env", Mode: 0o644, Names: []string{"API_TOKEN"}}}
	}},
	{"secrets-readable", "/etc/secret.env", "chown nobody /etc/secret.env && chmod 600 /etc/secret.env", func(f *Facts) {
		f.Scopes[0].Service.User = "nobody"
		f.Scopes[0].Config.Exposed = []gather.Exposed{{Path: "/etc/secret.env", Mode: 0o644, Names: []string{"API_TOKEN"}}}
	}},
	{"backlog-too-small", "only 511 clients can wait on [::1]:18789", "gateway restart --system", func(f *Facts) { f.Sockets[1].Backlog = 511 }},
	{"somaxconn-too-small", "lets only 128 clients wait", "sysctl -w net.core.somaxconn=4096", func(f *Facts) {
		f.Somaxconn, f.Sockets[0].Backlog, f.Sockets[1].Backlog = 128, 128, 128
	}},
	{"no-linger", "the units of user alice end with the last session", "loginctl enable-linger alice", func(f *Facts) {
		userUnits(f, "active").SessionsOnly = true
		f.Scopes = f.Scopes[1:]
		f.Scopes[0].Manager.UID = 1000
	}},
	{"openclaw-not-external", "OPENCLAW_SUPERVISOR_MODE=external into /home/claw/.openclaw/.env", "gateway install --system --external", func(f *Facts) {
		f.Scopes[0].Config.DotEnv = &gather.DotEnv{Path: "/home/claw/.openclaw/.env"}
	}},
	{"openclaw-not-external", "the command writes", "gateway install --system --external", func(f *Facts) {
		f.Scopes[0].Config.DotEnv = &gather.DotEnv{Path: "/x/.env", State: dotenv.State{Set: true, Value: "none", Path: "/x/.env", Line: 3}}
	}},
	{"cache-writable-by-others", "/var/cache/openclaw-gateway/node", "runuser --pty -u nobody -- env XDG_RUNTIME_DIR=/run/user/65534 chmod go-w /var/cache/openclaw-gateway/node", func(f *Facts) {
		f.Scopes[0].Service.User = "nobody"
		f.Scopes[0].Config.Writable = &gather.Writable{Path: "/var/cache/openclaw-gateway/node", Mode: fs.ModeDir | 0o777, Owner: 65534}
	}},
	{"cache-writable-by-others", "it is not used", "mv /x/node /x/node.bak", func(f *Facts) {
		f.Scopes[0].Config.Writable = &gather.Writable{Path: "/x/node", Mode: fs.ModeSymlink | 0o777}
	}},
	{"cache-writable-by-others", "/x", "systemctl restart openclaw-gateway.service", func(f *Facts) {
		f.Scopes[0].Config.Writable = &gather.Writable{Path: "/x", Mode: fs.ModeDir | 0o700, Owner: 7, Base: true}
	}},
	{"systemd-too-old", "systemd is version 249", "", func(f *Facts) { f.Systemd = 249 }},
	{"kernel-too-old", "Linux 5.10.0 lacks cgroup.kill", "", func(f *Facts) { f.Kernel, f.KernelLacks = "5.10.0", []string{kernel.CgroupKill} }},
	{"kernel-too-old", "seccomp", `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`, func(f *Facts) {
		f.KernelLacks, f.Scopes[0].Config.Loaded.Worker.Handoff = []string{kernel.SeccompNotify}, config.HandoffIntercept
	}},
}

// misplaced has the system's socket unit listen where another user decides what lies there.
func misplaced(f *Facts) *gather.Scope {
	address, s := netaddr.Unix("/home/other/app.sock"), &f.Scopes[0]
	s.Misplaced = map[netaddr.Address]*read.OthersError{address: {At: "/home/other", Why: "belongs to user other"}}
	s.Config.Loaded.Listen, s.Socket.Listen = append(s.Config.Loaded.Listen, address), append(s.Socket.Listen, address)
	f.Sockets = append(f.Sockets, f.Sockets[0])
	f.Sockets[len(f.Sockets)-1].Address = address
	return s
}

// TestHealthy: a machine on which all is well gets no finding, in each of the states
// in which it can be.
func TestHealthy(t *testing.T) {
	for name, change := range map[string]func(*Facts){
		"serves":  func(*Facts) {},
		"nothing": func(f *Facts) { *f = Facts{&gather.Facts{}} },
		"waits for a first client": func(f *Facts) {
			closed(f, "active", "success")
		},
		"starts": func(f *Facts) {
			// Node.js has shrunk the queue.
			f.Scopes[0].Launcher.Worker.State, f.Sockets[0].Backlog = "starting", 511
		},
		"the port is open, seen by a user who sees no holder": func(f *Facts) {
			f.UID = 1000
			f.Sockets[0].Holders, f.Sockets[1].Holders = nil, nil
		},
		"units in two scopes on different ports": func(f *Facts) {
			other := netaddr.MustParse("127.0.0.1:18790")
			own := userUnits(f, "inactive")
			own.Socket.Listen, own.Socket.FileState, own.Config = []netaddr.Address{other}, "enabled", gather.Config{}
			own.Socket.ActiveState = "active"
			f.Sockets = append(f.Sockets, holders.Socket{Socket: sockdiag.Socket{Address: other, Backlog: 4096}})
		},
		"OpenClaw leaves its service alone": func(f *Facts) {
			f.Scopes[0].Config.DotEnv = &gather.DotEnv{State: dotenv.State{Set: true, Value: "External "}}
		},
		"OpenClaw is too old to": func(f *Facts) {
			f.Scopes[0].Config.DotEnv, f.Scopes[0].Config.Node.OpenClaw = &gather.DotEnv{}, "2026.5.5"
		},
		"OpenClaw's own unit is disabled": func(f *Facts) { f.Scopes[0].OpenClaw = []gather.Unit{{Name: "claw.service", FileState: "disabled"}} },
		"OpenClaw's own unit of another profile": func(f *Facts) {
			f.Scopes[0].OpenClaw = []gather.Unit{{Name: "claw-work.service", FileState: "enabled", MainPID: 7, Port: 20123}}
		},
		"a wildcard that OpenClaw binds": func(f *Facts) {
			wildcard := []netaddr.Address{netaddr.MustParse("0.0.0.0:18789")}
			s := &f.Scopes[0]
			s.Config.Loaded.Listen, s.Socket.Listen, f.Sockets = wildcard, wildcard, f.Sockets[:1]
			f.Sockets[0].Address = wildcard[0]
			s.Config.Loaded.Worker.Command[7] = "lan"
		},
	} {
		t.Run(name, func(t *testing.T) {
			facts := healthy(t)
			change(facts)
			for _, finding := range Examine(facts) {
				t.Errorf("found %s: %s, fix %s", finding.ID, finding.Summary, finding.Fix)
			}
		})
	}
}

func wrongVariable(f *Facts) {
	f.Scopes[0].Launcher.Config.State = "rejected"
	f.Scopes[0].Launcher.Config.Error = "GATEWAY_READY_TIMEOUT: ready.timeout: 10 has no unit: 10s? (units are ms, s, m and h)"
}

// TestWorkerFailedByVariable: where a variable keeps every worker from its start, both findings have the one remedy.
func TestWorkerFailedByVariable(t *testing.T) {
	facts := healthy(t)
	wrongVariable(facts)
	launcher := facts.Scopes[0].Launcher
	launcher.Worker.State, launcher.Problems = "failed", []string{api.SaysRefused + launcher.Config.Error}
	fixes := map[string]string{}
	for _, f := range Examine(facts) {
		fixes[f.ID] = f.Fix
	}
	if len(fixes) != 2 || fixes["worker-failed"] == "" || fixes["worker-failed"] != fixes["config-rejected"] {
		t.Errorf("found %q", fixes)
	}
}

func TestFindings(t *testing.T) {
	for i, situation := range situations {
		t.Run(fmt.Sprintf("%d %s", i, situation.id), func(t *testing.T) {
			facts := healthy(t)
			situation.change(facts)
			findings := Examine(facts)
			at := slices.IndexFunc(findings, func(f Finding) bool { return f.ID == situation.id })
			if at < 0 {
				t.Fatalf("not found; what was: %+v", findings)
			}
			found := findings[at]
			if !strings.Contains(found.Summary, situation.says) {
				t.Errorf("says %q, want %q in it", found.Summary, situation.says)
			}
			if situation.fix != "" && found.Fix != situation.fix || found.Fix == "" {
				t.Errorf("the fix is %q,\nwant       %q", found.Fix, situation.fix)
			}
			if found.Severity != Error && found.Severity != Warning || len(found.Evidence) == 0 {
				t.Errorf("the finding is %+v, want a severity and evidence", found)
			}
			// What follows from a port that somebody else has is said as well.
			for _, other := range findings {
				if other.ID != situation.id && !strings.HasPrefix(other.ID, "port-held") && !strings.HasPrefix(situation.id, "socket") && !strings.HasPrefix(other.ID, "socket") {
					t.Errorf("also found %s: %s", other.ID, other.Summary)
				}
			}
		})
	}
	for _, kind := range Kinds {
		if !slices.ContainsFunc(situations, func(s situation) bool { return s.id == kind.ID }) {
			t.Errorf("no situation brings about %s", kind.ID)
		}
	}
}

// TestStock: who has OpenClaw's own service and nothing of ours is told to adopt it, and not what leaves them without any.
func TestStock(t *testing.T) {
	facts := healthy(t)
	stock(facts)
	taken(facts, holders.Holder{Process: proctree.Process{PID: 5}, Role: api.RoleRival, RunBy: holders.RunBy{Unit: "claw.service", Enabled: true}})
	findings := Examine(facts)
	for _, found := range findings {
		if found.Fix != "gateway adopt claw.service --system" || !strings.Contains(found.Summary, "`systemctl disable --now claw.service` ends it") {
			t.Errorf("%s: %s, fix %s", found.ID, found.Summary, found.Fix)
		}
	}
	if len(findings) != 2 {
		t.Errorf("found %+v", findings)
	}
}

// TestNoSecrets: the command line of a unit is shown without the secrets in it.
func TestNoSecrets(t *testing.T) {
	for id, change := range map[string]func(*gather.Scope){
		"main-pid-not-launcher": func(s *gather.Scope) { s.Service.MainPID = 99 },
		"launcher-name":         func(s *gather.Scope) { s.Service.Argv[0] = "/opt/openclaw-start" },
		"launcher-name ": func(s *gather.Scope) {
			s.Service.Argv = []string{"/usr/local/bin/gateway", "gateway", "/x/dist/index.js"}
		},
	} {
		facts := healthy(t)
		change(&facts.Scopes[0])
		facts.Scopes[0].Service.Argv = append(facts.Scopes[0].Service.Argv, "--token", "hunter2")
		encoded, err := json.Marshal(NewReport(facts.Facts, About{}))
		if err != nil {
			t.Fatal(err)
		}
		if text := string(encoded); !strings.Contains(text, strings.TrimSpace(id)) || !strings.Contains(text, "--token ***") || strings.Contains(text, "hunter2") {
			t.Errorf("%s: %s", id, text)
		}
	}
}

// TestReport: what could not be looked at is said, and never taken for healthy.
func TestReport(t *testing.T) {
	facts := healthy(t)
	report := NewReport(facts.Facts, About{})
	if text := report.Text(false, 0); report.Exit() != 0 || text != "nothing found: openclaw-gateway.service of the system scope on 127.0.0.1:18789 and [::1]:18789\n" {
		t.Errorf("healthy: %d, %q", report.Exit(), text)
	}
	if encoded, err := json.Marshal(report); err != nil || string(encoded) != `{"findings":[],"unknown":[]}` {
		t.Errorf("healthy: %s, %v", encoded, err)
	}
	facts.Unknown = []gather.Unknown{{What: "2 processes of others could not be looked into"}}
	if report := NewReport(facts.Facts, About{}); report.Exit() != 0 || !strings.Contains(report.Text(false, 0), "not looked at: 2 processes of others") {
		t.Errorf("something unknown: %d, %s", report.Exit(), report.Text(false, 0))
	}
	facts.Unknown[0].Essential = true
	if report := NewReport(facts.Facts, About{}); report.Exit() != 2 || !strings.Contains(report.Text(false, 0), "as far as could be looked") {
		t.Errorf("something essential unknown: %d, %s", report.Exit(), report.Text(false, 0))
	}
	facts.Scopes[0].Launcher.Worker.State, facts.Scopes[0].Launcher.Problems = "failed", []string{"first\x1b[2J", "second"}
	report = NewReport(facts.Facts, About{})
	want := "error: worker-failed\n  no worker is started any more: the launcher waits for an edit of the configuration or for \"gateway restart\"\n" +
		"      generation  1\n        problems  first\\x1b[2J\n                  second\n           scope  system\n           state  failed\n" +
		"  fix: gateway restart --system\n\nnot looked at: 2 processes of others could not be looked into\n1 finding\n"
	if text := report.Text(false, 0); report.Exit() != 1 || text != want {
		t.Errorf("a finding: %d, %s", report.Exit(), text)
	}
	var out strings.Builder
	_, _ = say.NewWriter(&out).Write([]byte(report.Text(true, 0)))
	report.Findings = append(report.Findings, Finding{
		ID: "unit-overridden", Severity: Warning, Summary: "a drop-in of the service says what the launcher cannot live with for long",
		Fix: "run `sudo systemctl revert openclaw-gateway.service`, or edit the file that is named, and then run `gateway doctor` once more",
	})
	for _, columns := range []int{40, 60, 80, 200} {
		for line := range strings.Lines(report.Text(false, columns)) {
			if width := say.Width(strings.TrimSuffix(line, "\n")); width > columns {
				t.Errorf("a line of %d columns on a terminal of %d: %s", width, columns, line)
			}
		}
	}
	if text := out.String(); !strings.HasPrefix(text, "\x1b[1;31merror:\x1b[0m \x1b[1mworker-failed\x1b[0m\n") || strings.Contains(text, "\x1b[2J") {
		t.Errorf("in colour: %q", text)
	}
}

// TestPage holds the table in docs/doctor.md equal to what is looked for.
func TestPage(t *testing.T) {
	page, err := os.ReadFile("../../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for _, kind := range Kinds {
		fmt.Fprintf(&table, "| `%s` | %s |\n", kind.ID, kind.Means)
	}
	if !strings.Contains(string(page), table.String()) {
		t.Errorf("docs/doctor.md has another table, want\n%s", table.String())
	}
}

// TestByHand: a launcher that another user has started by hand is nobody's business, unless it has a port of ours.
func TestByHand(t *testing.T) {
	t.Parallel()
	const uid = other
	for port, want := range map[uint16]int{18789: 1, 18790: 0} {
		facts := healthy(t)
		address := netaddr.From(ipv4.Addr(), port)
		facts.Wanted = append(facts.Wanted, address)
		facts.Scopes = append(facts.Scopes, gather.Scope{
			Name: units.User, Manager: systemd.Manager{User: true, UID: uid}, User: "mallory", Answer: gather.Answered,
			Launcher: &api.Status{Version: facts.Version, Sockets: []api.Socket{{Address: address.String()}}}, Listener: gather.Listener{PID: 500, UID: uid},
		})
		theirs := holders.Holder{Process: proctree.Process{PID: 500}, UID: uid, Role: api.RoleForeign, Why: "it is a launcher"}
		facts.Sockets = append(facts.Sockets, holders.Socket{
			Socket: sockdiag.Socket{Address: address, Inode: 9}, Holders: []holders.Holder{theirs}, Wanted: []netaddr.Address{address},
		})
		if found := heldByForeign(facts); len(found) != want {
			t.Errorf("on port %d: %+v, want %d", port, found, want)
		}
	}
}

// TestLauncherOfAnother: a launcher that another user's manager calls one has no right to an address of ours.
func TestLauncherOfAnother(t *testing.T) {
	t.Parallel()
	facts := healthy(t)
	add(facts, holders.Holder{Process: proctree.Process{PID: 5}, UID: other, Role: api.RoleLauncher, Manager: systemd.Manager{User: true, UID: other}}, 1)
	found := heldByForeign(facts)
	if len(found) != 1 || found[0].Evidence["pid"] != 5 || !strings.Contains(found[0].Summary, "it is the launcher of user 4000000") {
		t.Errorf("found %+v", found)
	}
}
