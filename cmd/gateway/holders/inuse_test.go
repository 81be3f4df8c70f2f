package holders

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/worker/proctree"
)

func TestInUse(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	cmd, end := startHolder(t, l, "gateway", "--token", "hunter2")
	if got, want := InUse(addr), fmt.Sprintf("%s is held by this very process (pid %d)", addr, os.Getpid()); !strings.HasPrefix(got, want) {
		t.Errorf("held by itself:\n got %s\nwant %s…", got, want)
	}
	l.Close()
	if _, err := net.Listen("tcp4", addr.String()); err == nil {
		t.Fatalf("%s could be bound although the child listens on it", addr)
	}
	want := fmt.Sprintf("%s is held by pid %d (gateway --token ***)", addr, cmd.Process.Pid)
	if got := InUse(addr); !strings.HasPrefix(got, want) || strings.Contains(got, "hunter2") {
		t.Errorf("held by a child:\n got %s\nwant %s…", got, want)
	}
	end()
	if got := InUse(addr); !strings.Contains(got, "free again") {
		t.Errorf("held by nobody: got %s", got)
	}
}

// The port of an outgoing connection cannot be bound either, and no listener explains it.
func TestInUseWithoutListener(t *testing.T) {
	_, addr := listen(t, "tcp4", "127.0.0.1:0")
	client := dial(t, addr).LocalAddr().(*net.TCPAddr).AddrPort()
	want := fmt.Sprintf("%s is held by this very process", client)
	if got := InUse(client); !strings.HasPrefix(got, want) {
		t.Errorf("got %s\nwant %s…", got, want)
	}
}

func TestInUseConflict(t *testing.T) {
	l, addr := listen(t, "tcp4", "127.0.0.1:0")
	cmd, _ := startHolder(t, l, "gateway")
	l.Close()
	got := InUse(netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()))
	want := fmt.Sprintf("0.0.0.0:%d conflicts with %s, which is held by pid %d (gateway)", addr.Port(), addr, cmd.Process.Pid)
	if !strings.HasPrefix(got, want) {
		t.Errorf("got  %s\nwant %s…", got, want)
	}
}

func TestExplain(t *testing.T) {
	const free = 5_000_000 // above PID_MAX_LIMIT of the kernel, and no user's number
	var (
		me      = uint32(0)
		addr    = netip.MustParseAddrPort("127.0.0.1:18789")
		socket  = sockdiag.Socket{Address: addr, Exact: true, Inode: 7}
		orphan  = Holder{Process: proctree.Process{PID: free}, Command: "node openclaw.mjs gateway", InUnit: "session-3.scope"}
		bare    = Holder{Process: proctree.Process{PID: free + 1}, Command: "node child"}
		service = Holder{Process: proctree.Process{PID: free + 2}, Command: "gateway run", InUnit: "openclaw-gateway.service"}
		mine    = Holder{Process: proctree.Process{PID: free + 3}, UID: me, Command: "gateway run", InUnit: "openclaw-gateway.service", UserUnit: true}
		others  = Holder{Process: proctree.Process{PID: free + 4}, UID: free, Command: "gateway run", InUnit: "openclaw-gateway.service", UserUnit: true}
		escaped = Holder{Process: proctree.Process{PID: free + 5}, Command: "x", InUnit: `a\x2db.service`}
		systemd = Holder{Process: proctree.Process{PID: 1, Name: "systemd"}, Command: "/sbin/init", InUnit: "init.scope"}
		session = Holder{Process: proctree.Process{PID: free + 6, Name: "systemd"}, UID: me, Command: "systemd --user", InUnit: "init.scope", UserUnit: true}
	)
	for _, tc := range []struct {
		name    string
		sockets []sockdiag.Socket
		holders []Holder
		unseen  int
		want    string
	}{
		{"orphan", []sockdiag.Socket{socket}, []Holder{orphan}, 0, "127.0.0.1:18789 is held by pid 5000000 (node openclaw.mjs gateway) in session-3.scope: to free it, run `kill 5000000`"},
		{"family", []sockdiag.Socket{socket}, []Holder{orphan, bare}, 0, "127.0.0.1:18789 is held by pid 5000000 (node openclaw.mjs gateway) in session-3.scope and pid 5000001 (node child): to free it, run `kill 5000000 5000001`"},
		{"service", []sockdiag.Socket{socket}, []Holder{service}, 0, "127.0.0.1:18789 is held by pid 5000002 (gateway run) in openclaw-gateway.service: to free it, run `systemctl stop openclaw-gateway.service`"},
		{"own user's service", []sockdiag.Socket{socket}, []Holder{mine}, 0, "127.0.0.1:18789 is held by pid 5000003 (gateway run) in openclaw-gateway.service of user " + userName(me) + ": to free it, run `systemctl --user stop openclaw-gateway.service`"},
		{"other user's service", []sockdiag.Socket{socket}, []Holder{others}, 0, "127.0.0.1:18789 is held by pid 5000004 (gateway run) in openclaw-gateway.service of user 5000000: to free it, run `runuser -u 5000000 -- env XDG_RUNTIME_DIR=/run/user/5000000 systemctl --user stop openclaw-gateway.service`"},
		{"escaped", []sockdiag.Socket{socket}, []Holder{escaped}, 0, "127.0.0.1:18789 is held by pid 5000005 (x) in a\\x2db.service: to free it, run `systemctl stop 'a\\x2db.service'`"},
		{"systemd", []sockdiag.Socket{socket}, []Holder{systemd, service}, 0, "127.0.0.1:18789 is held by pid 1 (/sbin/init) in init.scope and pid 5000002 (gateway run) in openclaw-gateway.service: to free it, stop the socket unit that `systemctl list-sockets` shows for it, then run `systemctl stop openclaw-gateway.service`"},
		{"user's systemd comes first", []sockdiag.Socket{socket}, []Holder{bare, session}, 0, "127.0.0.1:18789 is held by pid 5000006 (systemd --user) in init.scope of user " + userName(me) + " and pid 5000001 (node child): to free it, stop the socket unit that `systemctl --user list-sockets` shows for it, then run `kill 5000001`"},
		{"many", []sockdiag.Socket{socket}, []Holder{orphan, bare, service, escaped, others}, 0, ""},
		{"wildcard", []sockdiag.Socket{{Address: netip.MustParseAddrPort("0.0.0.0:18789"), Inode: 7}}, []Holder{bare}, 0, "127.0.0.1:18789 conflicts with 0.0.0.0:18789, which is held by pid 5000001 (node child): to free it, run `kill 5000001`"},
		{"some unseen", []sockdiag.Socket{socket}, []Holder{bare}, 1, "127.0.0.1:18789 is held by pid 5000001 (node child): to free it, run `kill 5000001` (more may hold it: 1 process could not be looked into, " + privilege(0) + ")"},
		{"all unseen", []sockdiag.Socket{{Address: addr, Exact: true, Inode: 7, UID: free}}, nil, 3, "127.0.0.1:18789 is held by a process of user 5000000 that cannot be seen from here, as 3 processes could not be looked into: " + privilege(0)},
		{"elsewhere", []sockdiag.Socket{{Address: addr, Exact: true, Inode: 7, UID: free}}, nil, 0, "127.0.0.1:18789 is held by a process of user 5000000 outside this PID namespace, or by the kernel: look on the host with `ss -tanp 'sport = :18789'`"},
		{"remains", []sockdiag.Socket{{Address: addr, Exact: true}}, nil, 0, "127.0.0.1:18789 is free again, or only waits for the remains of closed connections: try once more in a minute"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := explain(addr, tc.sockets, map[uint64][]Holder{7: tc.holders}, tc.unseen, int(me))
			if tc.want == "" {
				if !strings.Contains(got, "and 2 more: ") {
					t.Errorf("got %s, want three processes and 2 more", got)
				}
				return
			}
			if got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

// TestRemedyForOrdinaryUser: what only root may do is told with sudo.
func TestRemedyForOrdinaryUser(t *testing.T) {
	const caller, other, pid = 4_000_000, 4_000_001, 5_000_000
	for want, process := range map[string]Holder{
		"run `sudo systemctl stop a.service`":                                             {Process: proctree.Process{PID: pid}, UID: caller, InUnit: "a.service"},
		"run `systemctl --user stop a.service`":                                           {Process: proctree.Process{PID: pid}, UID: caller, InUnit: "a.service", UserUnit: true},
		"run `sudo runuser -u 4000001 -- env XDG_RUNTIME_DIR=/run/user/4000001 systemctl": {Process: proctree.Process{PID: pid}, UID: other, InUnit: "a.service", UserUnit: true},
		"run `kill 5000000`":                                                              {Process: proctree.Process{PID: pid}, UID: caller},
		"run `sudo kill 5000000`":                                                         {Process: proctree.Process{PID: pid}, UID: other},
		"`sudo systemctl list-sockets` shows":                                             {Process: proctree.Process{PID: 1, Name: "systemd"}},
	} {
		if got := remedy([]Holder{process}, caller); !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}
