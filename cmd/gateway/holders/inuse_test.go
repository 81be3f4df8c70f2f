package holders

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/proctree"
)

func TestInUse(t *testing.T) {
	l, addr := sockets.Server(t, "tcp4", "127.0.0.1:0")
	cmd, end := startHolder(t, l, "gateway", "--token", "hunter2")
	if got, want := InUse(t.Context(), addr), fmt.Sprintf("%s is held by this very process (pid %d)", addr, os.Getpid()); !strings.HasPrefix(got, want) {
		t.Errorf("held by itself:\n got %s\nwant %s…", got, want)
	}
	l.Close()
	if _, err := net.Listen("tcp4", addr.String()); err == nil {
		t.Fatalf("%s could be bound although the child listens on it", addr)
	}
	want := fmt.Sprintf("%s is held by pid %d (gateway --token ***)", addr, cmd.Process.Pid)
	if got := InUse(t.Context(), addr); !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
		t.Errorf("held by a child:\n got %s\nwant %s…", got, want)
	}
	end()
	if got := InUse(t.Context(), addr); !strings.Contains(got, "free again") {
		t.Errorf("held by nobody: got %s", got)
	}
}

// The port of an outgoing connection cannot be bound either, and no listener explains it.
func TestInUseWithoutListener(t *testing.T) {
	_, addr := sockets.Server(t, "tcp4", "127.0.0.1:0")
	client := netaddr.Of(sockets.Dial(t, addr).LocalAddr())
	want := fmt.Sprintf("%s is held by this very process", client)
	if got := InUse(t.Context(), client); !strings.HasPrefix(got, want) {
		t.Errorf("got %s\nwant %s…", got, want)
	}
}

func TestInUseConflict(t *testing.T) {
	l, addr := sockets.Server(t, "tcp4", "127.0.0.1:0")
	cmd, _ := startHolder(t, l, "gateway")
	l.Close()
	got := InUse(t.Context(), netaddr.From(netip.IPv4Unspecified(), addr.Port()))
	want := fmt.Sprintf("0.0.0.0:%d conflicts with %s, which is held by pid %d (gateway)", addr.Port(), addr, cmd.Process.Pid)
	if !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s…", got, want)
	}
}

// TestExplain: the sentence names everybody, and each command once.
func TestExplain(t *testing.T) {
	const free = 5_000_000 // above PID_MAX_LIMIT of the kernel, and no user's number
	root := Asker{Program: "gateway"}
	addr := netaddr.MustParse("127.0.0.1:18789")
	process := func(pid int, command, unit string, role api.Role, by RunBy) Holder {
		return Holder{Process: proctree.Process{PID: pid}, Command: command, InUnit: unit, Role: role, RunBy: by}
	}
	var (
		orphan  = process(free, "node openclaw.mjs gateway", "session-3.scope", api.RoleOrphan, RunBy{})
		child   = process(free+1, "node child", "", api.RoleOrphan, RunBy{})
		service = process(free+2, "gateway run", "openclaw-gateway.service", api.RoleLauncher, RunBy{Unit: "openclaw-gateway.service", Ours: true})
		escaped = process(free+5, "x", `a\x2db.service`, api.RoleForeign, RunBy{Unit: `a\x2db.service`})
		manager = process(1, "/sbin/init", "init.scope", api.RoleSystemd, RunBy{Unit: "openclaw-gateway.socket", Ours: true})
		other   = process(1, "/sbin/init", "init.scope", api.RoleSystemd, RunBy{Unit: "x.socket"})
		users   = process(free+6, "x", "x.service", api.RoleForeign, RunBy{})
	)
	users.UID, users.Manager = free, systemd.Manager{User: true, UID: free}
	for _, tc := range []struct {
		name    string
		holders []Holder
		bound   string
		unseen  int
		want    string
	}{
		{"orphan", []Holder{orphan}, "", 0, "is held by pid 5000000 (node openclaw.mjs gateway) in session-3.scope: `gateway reclaim 127.0.0.1:18789` ends it"},
		{"family", []Holder{orphan, child}, "", 0, "is held by pid 5000000 (node openclaw.mjs gateway) in session-3.scope and pid 5000001 (node child): `gateway reclaim 127.0.0.1:18789` ends it"},
		{"ours", []Holder{service, manager}, "", 0, "is held by pid 1 (/sbin/init) in init.scope and pid 5000002 (gateway run) in openclaw-gateway.service: `gateway stop --system` stops the launcher and its worker, and closes the port"},
		{"another socket unit", []Holder{escaped, other}, "", 0, "is held by pid 1 (/sbin/init) in init.scope and pid 5000005 (x) in a\\x2db.service: `systemctl stop x.socket` closes it, then `systemctl stop 'a\\x2db.service'` stops it"},
		{"a user's", []Holder{users}, "", 0, "is held by pid 5000006 (x) in x.service of user 5000000: `gateway reclaim --force 127.0.0.1:18789` ends it"},
		{"many", []Holder{orphan, child, service, escaped, users}, "", 0, "pid 5000002 (gateway run) in openclaw-gateway.service and 2 more: "},
		{"wildcard", []Holder{child}, "0.0.0.0:18789", 0, "conflicts with 0.0.0.0:18789, which is held by pid 5000001 (node child): `gateway reclaim 127.0.0.1:18789` ends it"},
		{"some unseen", []Holder{child}, "", 1, "`gateway reclaim 127.0.0.1:18789` ends it, if that is all: 1 process could not be looked into, so somebody else may hold the port too"},
		{"all unseen", nil, "", 3, "is held by a process of user 5000000 that cannot be seen from here: `ss -tanp 'sport = :18789'` shows who it is, on the host of this container"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			socket := Socket{Socket: sockdiag.Socket{Address: addr, Exact: true, Inode: 7, UID: free}, Holders: tc.holders, Wanted: []netaddr.Address{addr}}
			if tc.bound != "" {
				socket.Address, socket.Exact = netaddr.MustParse(tc.bound), false
			}
			if got := explain(addr, []Socket{socket}, tc.unseen, root, ""); !strings.Contains(got, tc.want) || !strings.HasPrefix(got, addr.String()+" ") {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
	if got := explain(addr, []Socket{{Socket: sockdiag.Socket{Address: addr, Exact: true}}}, 0, root, ""); !strings.Contains(got, "is free again") {
		t.Errorf("remains of a connection: %s", got)
	}
	socket := Socket{Socket: sockdiag.Socket{Address: addr, Exact: true, Inode: 7, UID: free}, Holders: []Holder{child}, Wanted: []netaddr.Address{addr}}
	if got, want := explain(addr, []Socket{socket}, 0, root, "user alice"), addr.String()+" is held by pid 5000001 (node child): user alice asks for it"; got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}
