package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/kernel"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// other is a user whom root is told of.
const (
	other     = 4_000_000 // no user's number
	asOther   = "runuser --pty -u 4000000 -- env XDG_RUNTIME_DIR=/run/user/4000000 "
	otherEdit = asOther + `"${EDITOR:-vi}" /home/other/config.yaml`
)

// of makes a scope another user's, with every word in it that this user can choose.
func of(s *gather.Scope) {
	s.Name, s.User, s.Manager = units.User, "other", systemd.Manager{User: true, UID: other}
	s.Socket.Path, s.Service.Path = "/home/other/a b;id/"+instance.Default.Socket(), "/home/other/a b;id/"+instance.Default.Service()
	s.Listener.UID, s.Replaceable = other, nil
	if s.Config.Path != "" {
		s.Config.Path = "/home/other/config.yaml"
	}
	if s.Config.Loaded != nil {
		s.Config.Loaded.Source = map[string]string{"listen": "/home/other/x; id #\nid/config.yaml:1", "worker.command": "`id`:1"}
	}
	for i := range s.OpenClaw {
		s.OpenClaw[i].Path = "/home/other/'; id #"
	}
}

// rootsOwn are the only commands that root is told to run as root where all that is wrong is another user's: nothing of that
// user's is in them but the name that root has given, and the program that root has called.
var rootsOwn = []string{"journalctl _UID=4000000 _SYSTEMD_USER_UNIT=openclaw-gateway.service", "loginctl enable-linger other", "uname -r", "gateway run", "install -m 755 /opt/openclaw-start /usr/local/bin/gateway"}

// TestTheirs goes through all that the doctor finds, in another user's scope: root is told to run nothing as root, nothing
// that would end what another has, and nothing behind a command.
func TestTheirs(t *testing.T) {
	for i, situation := range situations {
		if situation.id == "program-replaceable" || situation.id == "user-missing" {
			continue // of the system's units alone
		}
		t.Run(fmt.Sprintf("%d %s", i, situation.id), func(t *testing.T) {
			facts := healthy(t)
			situation.change(facts)
			if facts.UID != 0 || len(facts.Scopes) == 0 || facts.Scopes[0].Config.Path == "" {
				return // somebody else than root looks, or nobody asks for anything
			}
			for i := range facts.Scopes {
				of(&facts.Scopes[i])
			}
			for i := range facts.Waiting {
				facts.Waiting[i].UID, facts.Waiting[i].RunBy.Restarter.UID = other, other
			}
			for i := range facts.Sockets {
				for j := range facts.Sockets[i].Holders {
					facts.Sockets[i].Holders[j].UID = other
					if run := &facts.Sockets[i].Holders[j].RunBy; run.Unit != "" {
						run.Manager = systemd.Manager{User: true, UID: other}
					}
				}
			}
			findings := Examine(facts)
			for _, found := range findings {
				for _, command := range strings.Split(found.Fix, " && ") {
					if !strings.HasPrefix(command, asOther) && !slices.Contains(rootsOwn, command) {
						t.Errorf("%s has root run %s", found.ID, command)
					}
				}
			}
			if len(findings) == 0 && situation.id != "two-scopes-one-port" && !strings.Contains(situation.says, "of user alice") {
				t.Errorf("%s is not found at a user's", situation.id)
			}
		})
	}
}

// TestNoComment: zsh takes no # for a comment, and would execute what stands behind it.
func TestNoComment(t *testing.T) {
	comment := regexp.MustCompile(`(^|\s)#`)
	for i, situation := range situations {
		facts := healthy(t)
		situation.change(facts)
		for _, found := range Examine(facts) {
			if comment.MatchString(found.Fix) || strings.Contains(found.Fix, "\n") {
				t.Errorf("%d %s: something stands behind a command: %s", i, found.ID, found.Fix)
			}
		}
	}
}

// wishing is another user who asks for the port of a service of root's.
func wishing(f *Facts, role api.Role, run holders.RunBy) *gather.Scope {
	database := netaddr.MustParse("127.0.0.1:5432")
	f.Wanted = append(f.Wanted, database)
	f.Sockets = append(f.Sockets, holders.Socket{
		Socket: sockdiag.Socket{Address: database, Inode: 9, Exact: true}, Wanted: []netaddr.Address{database},
		Holders: []holders.Holder{{Process: proctree.Process{PID: 77}, Role: role, RunBy: run, Why: "it is no OpenClaw gateway"}},
	})
	loaded := config.Default()
	loaded.Listen = []netaddr.Address{database}
	s := gather.Scope{Config: gather.Config{Path: "/x", Loaded: loaded}}
	of(&s)
	f.Scopes = append(f.Scopes, s)
	return &f.Scopes[len(f.Scopes)-1]
}

// TestWish: what another user asks for ends nothing of anybody's, is no error, and no reason for the exit status.
func TestWish(t *testing.T) {
	installed := func(s *gather.Scope, state, result string) {
		s.Socket = gather.Unit{
			Name: instance.Default.Socket(), LoadState: "loaded", FileState: "enabled", ActiveState: state, Result: result,
			Listen: s.Config.Loaded.Listen, Backlog: 4096,
		}
	}
	db := holders.RunBy{Unit: "db.service", Enabled: true}
	for name, test := range map[string]struct {
		change func(*Facts)
		want   map[string]string // fix by id
	}{
		"a service": {func(f *Facts) { wishing(f, api.RoleForeign, db) }, map[string]string{"port-held-by-foreign": otherEdit}},
		"a process": {func(f *Facts) { wishing(f, api.RoleForeign, holders.RunBy{}) }, map[string]string{"port-held-by-foreign": otherEdit}},
		"an orphan": {func(f *Facts) { wishing(f, api.RoleOrphan, holders.RunBy{}) }, map[string]string{"port-held-by-orphan": otherEdit}},
		"a rival":   {func(f *Facts) { wishing(f, api.RoleRival, db) }, map[string]string{"port-held-by-rival": otherEdit}},
		"a socket":  {func(f *Facts) { wishing(f, api.RoleSystemd, holders.RunBy{}) }, map[string]string{"port-held-by-foreign": otherEdit}},
		"a hidden one": {func(f *Facts) {
			wishing(f, api.RoleForeign, db)
			f.Sockets[len(f.Sockets)-1].Holders = nil
		}, map[string]string{"port-holder-unseen": otherEdit}},
		"a container": {func(f *Facts) {
			wishing(f, api.RoleForeign, holders.RunBy{Container: &holders.Container{Engine: "docker", Name: "0123"}})
			f.Sockets[len(f.Sockets)-1].Holders[0].UID = other
		}, map[string]string{"port-held-by-foreign": otherEdit}},
		"a service, by a socket unit": {func(f *Facts) {
			installed(wishing(f, api.RoleForeign, db), "failed", resultResources)
		}, map[string]string{
			"port-held-by-foreign": otherEdit,
			"socket-port-taken":    otherEdit + " && " + asOther + "gateway install --user && " + asOther + "systemctl --user start openclaw-gateway.socket",
		}},
		"the system's own port": {func(f *Facts) {
			s := wishing(f, api.RoleForeign, db)
			s.Config.Loaded.Listen, f.Wanted, f.Sockets = f.Wanted[:2], f.Wanted[:2], f.Sockets[:2]
			installed(s, "failed", resultResources)
		}, map[string]string{
			"two-scopes-one-port": otherEdit + " && " + asOther + "gateway install --user",
			"socket-port-taken":   otherEdit + " && " + asOther + "gateway install --user && " + asOther + "systemctl --user start openclaw-gateway.socket",
		}},
		"the port of another profile's unit of root's": {func(f *Facts) {
			wishing(f, api.RoleForeign, db)
			f.Scopes[0].OpenClaw = []gather.Unit{{Name: "claw-work.service", FileState: "enabled", MainPID: 7, Port: 5432}}
		}, map[string]string{"port-held-by-foreign": otherEdit}},
		"seccomp": {func(f *Facts) {
			f.KernelLacks = []string{kernel.SeccompNotify}
			s := wishing(f, api.RoleForeign, db)
			s.Config.Loaded.Listen, s.Config.Loaded.Worker.Handoff = nil, config.HandoffIntercept
			f.Wanted, f.Sockets = f.Wanted[:2], f.Sockets[:2]
		}, map[string]string{"kernel-too-old": otherEdit}},
		"a longer queue": {func(f *Facts) {
			s := wishing(f, api.RoleForeign, db)
			s.Config, f.Wanted, f.Sockets = gather.Config{}, f.Wanted[:2], f.Sockets[:2]
			s.Socket = gather.Unit{Name: instance.Default.Socket(), LoadState: "loaded", FileState: "enabled", ActiveState: "active", Backlog: 1 << 30}
		}, map[string]string{"somaxconn-too-small": asOther + "systemctl --user edit openclaw-gateway.socket"}},
		// The configuration of the system's service can be a user's file.
		"the service's user": {func(f *Facts) {
			wishing(f, api.RoleForeign, db)
			f.Scopes[0].Config.Loaded.Listen = append(f.Scopes[0].Config.Loaded.Listen, f.Wanted[2])
			f.Scopes[0].Config.Others = &read.OthersError{At: "/home/other/config.yaml", UID: other}
			f.Scopes[0].Config.Path = "/home/other/config.yaml"
			f.Scopes = f.Scopes[:1]
			f.Scopes[0].Socket.Listen = f.Scopes[0].Config.Loaded.Listen[:2]
		}, map[string]string{"port-held-by-foreign": otherEdit, "listen-differs": "gateway install --system"}},
		// systemd would take the path from whoever listens there: "gateway install" refuses that.
		"the service's user, a unix socket of another service": {func(f *Facts) {
			wishing(f, api.RoleForeign, db)
			docker := netaddr.Unix("/run/docker.sock")
			f.Wanted[2], f.Sockets[2].Address, f.Sockets[2].Wanted = docker, docker, []netaddr.Address{docker}
			f.Scopes[0].Config.Loaded.Listen = append(f.Scopes[0].Config.Loaded.Listen, docker)
			f.Scopes[0].Config.Others = &read.OthersError{At: "/home/other/config.yaml", UID: other}
			f.Scopes[0].Config.Path = "/home/other/config.yaml"
			f.Scopes = f.Scopes[:1]
		}, map[string]string{"port-held-by-foreign": otherEdit}},
		"the service's user, where that one decides": {func(f *Facts) {
			s := misplaced(f)
			s.Socket.Listen, f.Sockets = s.Socket.Listen[:2], f.Sockets[:2]
			s.Config.Others, s.Config.Path = &read.OthersError{At: "/home/other/config.yaml", UID: other}, "/home/other/config.yaml"
		}, map[string]string{"unix-socket-unsafe": otherEdit}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := healthy(t)
			test.change(facts)
			report := NewReport(facts.Facts, About{})
			got := map[string]string{}
			for _, found := range report.Findings {
				got[found.ID] = found.Fix
				if found.ID != "listen-differs" && (found.Severity != Warning || !found.theirs) {
					t.Errorf("it is an error of the machine: %+v", found)
				}
			}
			for id, fix := range test.want {
				if got[id] != fix {
					t.Errorf("the fix of %s is %q,\nwant %q", id, got[id], fix)
				}
			}
			if _, differs := test.want["listen-differs"]; len(got) != len(test.want) || report.Exit() != 0 && !differs {
				t.Errorf("found %+v, exit status %d, want %v", report.Findings, report.Exit(), test.want)
			}
		})
	}
	t.Run("their own process", func(t *testing.T) {
		facts := healthy(t)
		wishing(facts, api.RoleOrphan, holders.RunBy{})
		facts.Sockets[2].Holders[0].UID = other
		report := NewReport(facts.Facts, About{})
		if len(report.Findings) != 1 || report.Findings[0].Fix != asOther+"gateway reclaim 127.0.0.1:5432" || report.Exit() != 1 {
			t.Errorf("found %+v, exit status %d", report.Findings, report.Exit())
		}
	})
	t.Run("the system cannot open its port", func(t *testing.T) {
		facts := healthy(t)
		closed(facts, "failed", resultResources)
		s := wishing(facts, api.RoleForeign, db)
		s.Config.Loaded.Listen, facts.Wanted = []netaddr.Address{ipv4}, facts.Wanted[:2]
		installed(s, "active", "success")
		taken(facts, holders.Holder{Process: proctree.Process{PID: 8}, UID: other, Role: api.RoleLauncher})
		for _, found := range Examine(facts) {
			if strings.Contains(found.Fix, "systemctl disable") || strings.Contains(found.Fix, "kill") || !strings.HasPrefix(found.Fix, otherEdit) {
				t.Errorf("%s: the fix is %s", found.ID, found.Fix)
			}
		}
		if report := NewReport(facts.Facts, About{}); report.Exit() != 1 {
			t.Errorf("the system's socket is not open: exit status %d", report.Exit())
		}
	})
}

// TestSecretsOfOthers: root's files are not named by others, and a file is changed as its owner alone.
func TestSecretsOfOthers(t *testing.T) {
	const nobody, asNobody = 65534, "runuser --pty -u nobody -- env XDG_RUNTIME_DIR=/run/user/65534 "
	for name, test := range map[string]struct {
		file gather.Exposed
		user bool // of a user's scope
		fix  string
	}{
		"root's file, named by a user":      {gather.Exposed{Path: "/etc/passwd"}, true, otherEdit},
		"her own file":                      {gather.Exposed{Path: "/home/other/x", Owner: other}, true, asOther + "chmod 600 /home/other/x"},
		"a third one's file":                {gather.Exposed{Path: "/home/bob/x", Owner: 1001}, true, otherEdit},
		"root's, named by the service's":    {gather.Exposed{Path: "/etc/passwd"}, false, asNobody + `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`},
		"the service's user's own":          {gather.Exposed{Path: "/home/other/x", Owner: nobody}, false, asNobody + "chmod 600 /home/other/x"},
		"a third one's, named by a service": {gather.Exposed{Path: "/home/bob/x", Owner: 1001}, false, asNobody + `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`},
	} {
		facts := healthy(t)
		s := &facts.Scopes[0]
		if test.user {
			of(s)
		} else {
			s.Config.Others, s.Service.User = &read.OthersError{At: s.Config.Path, UID: nobody}, "nobody"
		}
		s.Config.Exposed = []gather.Exposed{test.file}
		findings := secretsReadable(facts)
		if len(findings) != 1 || findings[0].Fix != test.fix {
			t.Errorf("%s: %+v, want %s", name, findings, test.fix)
		}
	}
}

// TestSecretsOfNobody: a child may have been told that a file is root's by a file system of its user's own, which is gone by
// the time that root would change it.
func TestSecretsOfNobody(t *testing.T) {
	facts := healthy(t)
	facts.Scopes[0].Service.User = "nobody"
	for path, fix := range map[string]string{
		"/none/of/root/x": `"${EDITOR:-vi}" /etc/openclaw-gateway/config.yaml`,
		"/etc/passwd":     "chown nobody /etc/passwd && chmod 600 /etc/passwd",
	} {
		file := gather.Exposed{Path: path}
		file.Confirm()
		facts.Scopes[0].Config.Exposed = []gather.Exposed{file}
		if findings := secretsReadable(facts); len(findings) != 1 || findings[0].Fix != fix {
			t.Errorf("%s: %+v, want %s", path, findings, fix)
		}
	}
}
