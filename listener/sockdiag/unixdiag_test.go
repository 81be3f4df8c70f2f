package sockdiag

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
)

// named is a client that has a name, as the launcher's own have one.
func named(t *testing.T, path string) net.Conn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "client")
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestUnix(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	path := filepath.Join(directory, "a b.sock")
	address := netaddr.Unix(path)
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := os.Symlink(path, filepath.Join(directory, "link")); err != nil {
		t.Fatal(err)
	}
	inode := uint64(0)
	check := func(when string, queued, connections int) {
		t.Helper()
		for _, at := range []netaddr.Address{address, netaddr.Unix(filepath.Join(directory, "link"))} {
			sockets, err := Listening(at)
			if err != nil || len(sockets) != 1 || sockets[0].Address != at || sockets[0].Queued != queued || sockets[0].Backlog < 100 || sockets[0].UID != uint32(os.Geteuid()) {
				t.Errorf("%s, %s: %+v, %v; want %d in the queue", when, at, sockets, err, queued)
				continue
			}
			inode = sockets[0].Inode
			if n, err := Connections(at); err != nil || n != connections {
				t.Errorf("%s, %s: %d connections, %v; want %d", when, at, n, err, connections)
			}
		}
	}
	unaccepted := func(when string, client net.Conn, want bool) {
		t.Helper()
		if got, err := Unaccepted(netaddr.Of(client.RemoteAddr()), netaddr.Of(client.LocalAddr())); err != nil || got != want {
			t.Errorf("%s: unaccepted: %t, %v; want %t", when, got, err, want)
		}
	}
	child := exec.Command("sleep", "100")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = child.Process.Kill(), child.Wait() }()
	accepted := func(when string, want bool) {
		t.Helper()
		if got, err := AnyAccepted(t.Context(), []netaddr.Address{address}, child.Process.Pid, os.Getpid()); err != nil || got != want {
			t.Errorf("%s: accepted: %t, %v; want %t", when, got, err, want)
		}
	}
	check("nobody", 0, 0)
	first, second := named(t, path), named(t, path)
	check("two wait", 2, 2)
	unaccepted("waits", first, true)
	accepted("two wait", false)
	server, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	check("one is accepted", 1, 2)
	unaccepted("accepted", first, false)
	unaccepted("behind it", second, true)
	accepted("one is accepted", true)
	server.Close()
	unaccepted("closed by the server", first, false)
	check("it is closed", 1, 1)
	second.Close()
	if waiting, backlog, err := UnixQueue(inode); err != nil || len(waiting) != 1 || waiting[0] != 0 || backlog < 100 {
		t.Errorf("the second has gone: %v of %d, %v", waiting, backlog, err)
	}
	if !UnixAtPath(inode, path) {
		t.Error("it is not at its path")
	}

	// Whoever binds a path removes what is there.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if sockets, err := Listening(address); err != nil || len(sockets) > 0 || UnixAtPath(inode, path) {
		t.Errorf("without its file: %+v, %v", sockets, err)
	}
	another, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer another.Close()
	old := inode
	check("another's", 0, 0)
	if inode == old || UnixAtPath(old, path) || !UnixAtPath(inode, path) {
		t.Errorf("who is at the path is told by its name: %d, before %d", inode, old)
	}
}

// TestUnixSourcesAgree: /proc/net/unix tells of the same sockets, without their queues.
func TestUnixSourcesAgree(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	named(t, path)
	if _, err := listener.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, state := range []uint32{tcpListen, tcpEstablished} {
		find := func(read func() ([]unixEntry, error)) (inodes []uint64) {
			entries, err := read()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Address.Path() == path {
					inodes = append(inodes, e.Inode)
				}
			}
			return inodes
		}
		diag := find(func() ([]unixEntry, error) { return unixDiag(1<<state, 0) })
		file := find(func() ([]unixEntry, error) { return procNetUnix(1 << state) })
		if len(diag) != 1 || len(file) != 1 || diag[0] != file[0] {
			t.Errorf("state %d: %v, and in the file %v", state, diag, file)
		}
	}
}
