package status

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/listener"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// listenShared listens with SO_REUSEPORT.
func listenShared(t *testing.T, address string) (*os.File, netaddr.Address) {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var option error
		err := raw.Control(func(fd uintptr) { option = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		if err != nil {
			return err
		}
		return option
	}}
	l, err := config.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file, netaddr.MustParse(l.Addr().String())
}

// hold starts a process of that command line which has the file open; its program
// is called node.
func hold(t *testing.T, file *os.File, argv ...string) int {
	t.Helper()
	content, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	node := filepath.Join(t.TempDir(), "node")
	if err := os.WriteFile(node, content, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node)
	cmd.Args, cmd.ExtraFiles = argv, []*os.File{file}
	if _, err := cmd.StdinPipe(); err != nil { // which cat reads
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// TestLook: each socket of an address is shown, with its connections and holders,
// and each who should not be there is named with a reason and a way out.
func TestLook(t *testing.T) {
	first, address := listenShared(t, "127.0.0.1:0")
	second, _ := listenShared(t, address.String())
	client, err := net.Dial("tcp", address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	orphan := hold(t, first, "openclaw-gateway")
	foreign := hold(t, second, "cat")

	s := View{Status: api.Status{Worker: api.Worker{State: "ready"}}}
	s.look(t.Context(), []netaddr.Address{address}, 0)
	if len(s.Sockets) != 2 || s.Sockets[0].Inode == s.Sockets[1].Inode {
		t.Fatalf("the sockets are %+v", s.Sockets)
	}
	queued := 0
	roles := map[int]api.Role{}
	for _, socket := range s.Sockets {
		queued += socket.Queued
		if socket.Address != address.String() || socket.Backlog == 0 || socket.Connections == nil || *socket.Connections != 1 || len(socket.Holders) != 2 {
			t.Errorf("%+v", socket)
		}
		for _, holder := range socket.Holders {
			roles[holder.PID] = holder.Role
			if holder.Since == nil || holder.Command == "" {
				t.Errorf("%+v", holder)
			}
		}
	}
	want := map[int]api.Role{os.Getpid(): api.RoleForeign, orphan: api.RoleOrphan, foreign: api.RoleForeign}
	if queued != 1 || fmt.Sprint(roles) != fmt.Sprint(want) {
		t.Errorf("%d queued, and the roles are %v, want %v", queued, roles, want)
	}
	if s.Verdict != api.VerdictOrphan || len(s.Problems) != 3 {
		t.Fatalf("%s: %q", s.Verdict, s.Problems)
	}
	problems := strings.Join(s.Problems, "\n")
	if !strings.Contains(s.Problems[0], "an orphan") {
		t.Errorf("the first is %q", s.Problems[0])
	}
	for _, words := range [][]string{
		{fmt.Sprintf("%s is held by pid %d (openclaw-gateway), an orphan: ", address, orphan), "no unit keeps running", "`" + holders.Me().Program + " reclaim " + address.String() + "`"},
		{fmt.Sprintf("%s is held by pid %d (cat), a foreign process: it is no OpenClaw gateway; ", address, foreign)},
	} {
		for _, word := range words {
			if !strings.Contains(problems, word) {
				t.Errorf("%q lacks %q", problems, word)
			}
		}
	}

	// The launcher's own list, in another namespace, stays as it is.
	far := View{Status: api.Status{Sockets: []api.Socket{{Address: "127.0.0.1:1", Inode: 1}}, Worker: api.Worker{State: "ready"}}}
	far.look(t.Context(), nil, 0)
	if len(far.Notes) == 0 || !strings.Contains(far.Notes[0], "connections to 127.0.0.1:1 cannot be counted from here") {
		t.Errorf("the notes are %q", far.Notes)
	}
}

// TestOwner: whose socket it is shows also where the launcher has named the socket.
func TestOwner(t *testing.T) {
	var socket *listener.Socket
	var err error
	fixtures.As(t, 65534, func() { socket, err = listener.Bind(netaddr.MustParse("127.0.0.1:0")) })
	if err != nil {
		t.Fatal(err)
	}
	defer socket.File.Close()
	s := View{Status: api.Status{Sockets: []api.Socket{{Address: socket.Address.String(), Inode: socket.Inode}}}}
	if err := s.count([]netaddr.Address{socket.Address}); err != nil {
		t.Fatal(err)
	}
	if len(s.Sockets) != 1 || s.owners[socket.Inode] != 65534 {
		t.Errorf("the sockets are %+v, made by %v", s.Sockets, s.owners)
	}
}

// TestIntruders: the worst come first, one sentence each, and a crowd is counted.
func TestIntruders(t *testing.T) {
	wanted := []netaddr.Address{netaddr.MustParse("127.0.0.1:18789"), netaddr.MustParse("[::1]:18789")}
	var sockets []holders.Socket
	add := func(pid int, role api.Role, addresses ...string) {
		for _, address := range addresses {
			holder := holders.Holder{Role: role, Why: "why"}
			holder.PID, holder.Command = pid, "command"
			sockets = append(sockets, holders.Socket{
				Socket: sockdiag.Socket{Address: netaddr.MustParse(address)}, Holders: []holders.Holder{holder},
			})
		}
	}
	add(2, api.RoleLauncher, "127.0.0.1:18789")
	for pid := 10; pid < 15; pid++ {
		add(pid, api.RoleForeign, "127.0.0.1:18789")
	}
	add(20, api.RoleOrphan, "127.0.0.1:18789", "[::1]:18789", "127.0.0.1:18789")
	add(30, api.RoleOrphan, "0.0.0.0:18789")
	want := []string{
		"127.0.0.1:18789 and [::1]:18789 are held by pid 20 (command), an orphan: why; `gateway reclaim 127.0.0.1:18789 '[::1]:18789'` ends it",
		"0.0.0.0:18789, which conflicts with 127.0.0.1:18789 and [::1]:18789, is held by pid 30 (command), an orphan: why; `gateway reclaim 127.0.0.1:18789` ends it",
		"127.0.0.1:18789 is held by pid 10 (command), a foreign process: why; `gateway reclaim --force 127.0.0.1:18789` ends it",
		"127.0.0.1:18789 is held by pid 11 (command), a foreign process: why; `gateway reclaim --force 127.0.0.1:18789` ends it",
		"127.0.0.1:18789 is held by pid 12 (command), a foreign process: why; `gateway reclaim --force 127.0.0.1:18789` ends it",
		"2 more hold it as a foreign process (--json lists them)",
	}
	if got := new(View).intruders(holders.Each(sockets), wanted, holders.Asker{Program: "gateway"}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// BenchmarkStatus is what a look costs, without systemctl and the launcher.
func BenchmarkStatus(b *testing.B) {
	socket, err := listener.Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		b.Fatal(err)
	}
	defer socket.File.Close()
	for b.Loop() {
		s := View{Status: api.Status{Launcher: api.Launcher{PID: os.Getpid()}, Worker: api.Worker{State: "ready"}}}
		if s.look(context.Background(), []netaddr.Address{socket.Address}, 0); len(s.Sockets) != 1 {
			b.Fatal(s.Sockets)
		}
	}
}

// TestTheirs: what another user's launcher says is that user's word; nor is root told to end anybody because a user asks for an
// address.
func TestTheirs(t *testing.T) {
	s := View{theirs: true, wisher: "user alice", Status: api.Status{Problems: []string{"run 'rm -r /'"}, Notes: []string{"or 'reboot'"}}}
	s.attribute()
	if got := s.Problems[0] + " " + s.Notes[0]; got != "the launcher of user alice says: run 'rm -r /' the launcher of user alice says: or 'reboot'" {
		t.Errorf("got %s", got)
	}
	h := holders.Holder{Process: proctree.Process{PID: 5}, Command: "sshd", Role: api.RoleForeign, Why: "it is no OpenClaw gateway", Addresses: []netaddr.Address{netaddr.MustParse("0.0.0.0:22")}}
	got := s.intruders([]holders.Holder{h}, h.Addresses, holders.Asker{})
	if want := "0.0.0.0:22 is held by pid 5 (sshd), a foreign process: it is no OpenClaw gateway; user alice asks for it"; len(got) != 1 || got[0] != want {
		t.Errorf("got  %q\nwant %s", got, want)
	}
}

// TestWisher: what the user of the system's service asks for, in a configuration or as a launcher, has root stop nobody. What the
// socket unit has is root's word even so.
func TestWisher(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	first, wished := listenShared(t, "127.0.0.1:0")
	second, granted := listenShared(t, "127.0.0.1:0")
	having := map[netaddr.Address]int{wished: hold(t, first, "cat"), granted: hold(t, second, "cat")}
	const nobody = 65534
	config := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "openclaw-gateway/config.yaml")
	if err := errors.Join(os.Mkdir(filepath.Dir(config), 0o755), os.WriteFile(config, []byte("listen: ['"+wished.String()+"']\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	inode := func(of netaddr.Address) uint64 {
		sockets, err := sockdiag.Listening(of)
		if err != nil || len(sockets) != 1 {
			t.Fatal(sockets, err)
		}
		return sockets[0].Inode
	}
	at := client.Target{Scope: units.System, Unit: api.Unit{Scope: "system"}, Listen: []netaddr.Address{granted}}
	told := func(uid int, sockets ...api.Socket) View {
		s := View{Status: api.Status{
			Version: api.ProgramVersion(), Launcher: api.Launcher{UID: uid, Holder: api.FromItself}, Worker: api.Worker{State: api.StateReady},
			Config: api.Config{Path: config, State: "rejected"}, Sockets: sockets, Problems: []string{"run me"},
		}}
		complete(t.Context(), at, &s)
		return s
	}
	for _, test := range []struct {
		name  string
		owner int // of the configuration
		look  func() View
		stops []netaddr.Address // whose holders a command stops
	}{
		{"root's configuration", 0, func() View { return withoutLauncher(t.Context(), client.Nowhere(""), client.ErrNowhere) }, []netaddr.Address{wished}},
		{"a user's configuration", nobody, func() View { return withoutLauncher(t.Context(), client.Nowhere(""), client.ErrNowhere) }, nil},
		{"root's launcher", 0, func() View { return told(0, api.Socket{Address: wished.String()}) }, []netaddr.Address{wished}},
		{"an edit of root's", 0, func() View { return told(0) }, []netaddr.Address{wished}},
		{"an edit of a user's", nobody, func() View { return told(0) }, nil},
		{"an edit that a user's launcher names", 0, func() View { return told(nobody) }, nil},
		{"a user's launcher", 0, func() View { return told(nobody, api.Socket{Address: wished.String()}) }, nil},
		{"a user's, of the unit", nobody, func() View { return told(nobody, api.Socket{Address: granted.String()}) }, []netaddr.Address{granted}},
		{"a user's, of both", 0, func() View {
			return told(nobody, api.Socket{Address: wished.String()}, api.Socket{Address: granted.String()})
		}, []netaddr.Address{granted}},
		{"a false address", 0, func() View {
			return told(nobody, api.Socket{Address: granted.String(), Inode: inode(wished)}, api.Socket{Address: wished.String()})
		}, []netaddr.Address{granted}},
		{"a false address of the unit's", 0, func() View {
			return told(nobody, api.Socket{Address: wished.String(), Inode: inode(granted)}, api.Socket{Address: granted.String()})
		}, []netaddr.Address{granted}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.Chown(config, test.owner, -1); err != nil {
				t.Fatal(err)
			}
			s := test.look()
			problems := strings.Join(s.Problems, "\n")
			for address, pid := range having {
				of := slices.DeleteFunc(slices.Clone(s.Problems), func(p string) bool { return !strings.Contains(p, fmt.Sprintf(" pid %d ", pid)) })
				said, want := strings.Join(of, "\n"), slices.Contains(test.stops, address)
				if strings.HasPrefix(test.name, "an edit of") && address == wished && !strings.HasPrefix(said, address.String()+" is held by ") {
					t.Errorf("who has %s is not said:\n%s", address, problems)
				}
				if stops := strings.Contains(said, "`"); stops != want || want && !strings.HasPrefix(said, address.String()+" is held by") {
					t.Errorf("a command stops pid %d, which has %s: %t, want %t:\n%s", pid, address, stops, want, problems)
				}
			}
			if of := s.Launcher.UID == nobody; of != strings.Contains(problems, "the launcher of user nobody says: run me") {
				t.Errorf("it is user nobody's: %t:\n%s", of, problems)
			}
			_, err := Addresses(t.Context(), client.Choice{User: true})
			if refused := err != nil && strings.Contains(err.Error(), "what user nobody asks for"); refused != (test.owner == nobody) {
				t.Errorf("the addresses to reclaim: %v", err)
			}
		})
	}
}
