package listener

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
)

// unixAt listens at a path until the test ends.
func unixAt(t *testing.T, path string, access netaddr.Access) *Socket {
	t.Helper()
	socket, err := BindWith(netaddr.Unix(path), Options{Access: access})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = socket.Unlink(), socket.File.Close() })
	return socket
}

func dialUnix(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestBindUnix(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a b%$.sock")
	socket := unixAt(t, path, netaddr.Access{})
	if socket.Address != netaddr.Unix(path) || socket.String() != "unix:"+path {
		t.Errorf("it has the address %s", socket)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("its file: %v, %v", info.Mode(), err)
	}
	for want := 1; want <= 3; want++ {
		dialUnix(t, path)
		if queued, backlog, err := socket.Queue(); err != nil || queued != want || backlog < 4096 {
			t.Errorf("%d of %d wait, %v; want %d", queued, backlog, err, want)
		}
	}
	fd, _, err := socket.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if queued, _, err := socket.Queue(); err != nil || queued != 2 {
		t.Errorf("%d wait, %v", queued, err)
	}
	if (Set{socket}).Displaced(socket.Address) {
		t.Error("somebody is in its place")
	}
	if target, can := (Set{socket}).Reach(socket.Address); !can || target != socket.Address {
		t.Errorf("reached at %s: %t", target, can)
	}
	if err := socket.Restore(); err != nil {
		t.Error(err)
	}
	if err := socket.Unlink(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its file stays: %v", err)
	}
	if _, can := (Set{socket}).Reach(socket.Address); can {
		t.Error("without its file it can be reached")
	}
}

func TestUnixAccess(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to give files away: make test")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "socket")
	socket := unixAt(t, path, netaddr.Access{Mode: "0660", User: nobody.Uid, Group: "12345"})
	check := func(mode os.FileMode, uid string, gid int) {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		owner := info.Sys().(*syscall.Stat_t)
		if info.Mode().Perm() != mode || strconv.Itoa(int(owner.Uid)) != uid || int(owner.Gid) != gid {
			t.Errorf("it has %v, user %d, group %d", info.Mode(), owner.Uid, owner.Gid)
		}
	}
	check(0o660, nobody.Uid, 12345)
	if lacks := socket.Lacks(netaddr.Access{Mode: "0660", User: nobody.Uid}); lacks != "" {
		t.Errorf("it lacks something: %s", lacks)
	}
	if lacks := socket.Lacks(netaddr.Access{Group: "0"}); lacks != "mode 0660, group 12345" {
		t.Errorf("it has %q", lacks)
	}
	if err := socket.Grant(netaddr.Access{}); err != nil {
		t.Error(err)
	}
	check(0o600, "0", os.Getegid())
}

// TestGrantAt: who can write to the directory of a socket must not come by another file.
func TestGrantAt(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	secret, other := filepath.Join(directory, "secret"), unixAt(t, filepath.Join(directory, "other"), netaddr.Access{})
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func(at string) error{
		"a symlink":           func(at string) error { return os.Symlink(secret, at) },
		"a symlink, a socket": func(at string) error { return os.Symlink(other.Address.Path(), at) },
		"a hard link":         func(at string) error { return os.Link(other.Address.Path(), at) },
		"a file":              func(at string) error { return os.WriteFile(at, nil, 0o600) },
	} {
		at := filepath.Join(directory, "socket")
		if err := put(at); err != nil {
			t.Fatal(err)
		}
		if err := GrantAt(at, netaddr.Access{Mode: "0666"}); err == nil {
			t.Errorf("%s was given a mode", name)
		}
		if err := os.Remove(at); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{secret, other.Address.Path()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestGrantAtSwapped: who owns the directory of a socket must not come by one elsewhere, by having that directory be a symlink in
// between.
func TestGrantAtSwapped(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	at := func(name string) string { return filepath.Join(directory, name) }
	if err := errors.Join(os.Mkdir(at("precious"), 0o700), os.Mkdir(at("theirs"), 0o777), os.Chmod(at("theirs"), 0o777),
		os.Mkdir(at("theirs/folder"), 0o700), os.Symlink(at("precious"), at("theirs/link"))); err != nil {
		t.Fatal(err)
	}
	unixAt(t, at("precious/socket"), netaddr.Access{})
	unixAt(t, at("theirs/folder/socket"), netaddr.Access{})
	if err := GrantAt(at("theirs/link/socket"), netaddr.Access{Mode: "0666"}); err == nil || !strings.Contains(err.Error(), "is a symlink in a directory in which others can write") {
		t.Errorf("behind another's symlink: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 5000 {
			_ = unix.Renameat2(unix.AT_FDCWD, at("theirs/folder"), unix.AT_FDCWD, at("theirs/link"), unix.RENAME_EXCHANGE)
		}
	}()
	granted := 0
	for swapping := true; swapping; {
		if err := GrantAt(at("theirs/folder/socket"), netaddr.Access{Mode: "0666"}); err == nil {
			granted++
		}
		select {
		case <-done:
			swapping = false
		default:
		}
	}
	if info, err := os.Stat(at("precious/socket")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("after %d grants the one elsewhere: %v, %v", granted, info.Mode(), err)
	}
}

func TestBindUnixInTheWay(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	at := func(name string) string { return filepath.Join(directory, name) }

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("stale")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	unixAt(t, at("stale"), netaddr.Access{})
	dialUnix(t, at("stale"))

	taken, err := net.Listen("unix", at("taken"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := Bind(netaddr.Unix(at("taken"))); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("where somebody listens: %v", err)
	}
	dialUnix(t, at("taken"))

	if err := os.WriteFile(at("file"), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Bind(netaddr.Unix(at("file"))); err == nil || !strings.Contains(err.Error(), "no socket: it is not removed") {
		t.Errorf("where a file is: %v", err)
	}
	if content, err := os.ReadFile(at("file")); err != nil || string(content) != "precious" {
		t.Errorf("the file: %q, %v", content, err)
	}
	if _, err := Bind(netaddr.Unix(at("none/socket"))); err == nil || !strings.Contains(err.Error(), "there is no directory "+at("none")) {
		t.Errorf("without a directory: %v", err)
	}
	if _, err := Bind(netaddr.Unix(at("file/socket"))); err == nil || !strings.Contains(err.Error(), "no directory") {
		t.Errorf("below a file: %v", err)
	}

	if err := os.Mkdir(at("theirs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(directory, at("theirs/link")); err != nil {
		t.Fatal(err)
	}
	unixAt(t, at("theirs/link/socket"), netaddr.Access{})
	if err := os.Chmod(at("theirs"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	if _, err := Bind(netaddr.Unix(at("theirs/link/another"))); err == nil || !strings.Contains(err.Error(), "is a symlink in a directory in which others can write") {
		t.Errorf("behind another's symlink: %v", err)
	}
}

// TestUnlinkOnlyOurs: a program that binds a path removes what is there; its socket stays.
func TestUnlinkOnlyOurs(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	socket := unixAt(t, path, netaddr.Access{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	theirs, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if _, can := (Set{socket}).Reach(socket.Address); can {
		t.Error("another's socket is taken for ours")
	}
	if !(Set{socket}).Displaced(socket.Address) {
		t.Error("nobody is said to be in its place")
	}
	if err := socket.Unlink(); err != nil {
		t.Error(err)
	}
	dialUnix(t, path)
}

func TestUnixStall(t *testing.T) {
	t.Parallel()
	socket, quiet := unixAt(t, filepath.Join(t.TempDir(), "socket"), netaddr.Access{}), unixAt(t, filepath.Join(t.TempDir(), "quiet"), netaddr.Access{})
	sockets := Set{quiet, socket}
	const limit = 500 * time.Millisecond
	gone := dialUnix(t, socket.Address.Path())
	client := dialUnix(t, socket.Address.Path())
	gone.Close() // stays in the queue, and does not wait
	came := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	at, since, err := sockets.AwaitStall(ctx, limit)
	if err != nil || at != socket.Address || since.Before(came.Add(-time.Second)) || time.Since(came) < limit {
		t.Fatalf("%s since %s (came %s): %v", at, since, came, err)
	}
	if _, waits, err := sockets.Oldest(); err != nil || waits < limit {
		t.Errorf("it has waited for %s, %v", waits, err)
	}
	relieved := make(chan error)
	go func() { relieved <- sockets.AwaitRelief(ctx, limit) }()
	for range 2 {
		fd, _, err := socket.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
	}
	if err := <-relieved; err != nil {
		t.Error(err)
	}
	_ = client
}

// TestUnixStallOfNobody: a client that has given up does not wait, though it stands in the queue.
func TestUnixStallOfNobody(t *testing.T) {
	t.Parallel()
	socket := unixAt(t, filepath.Join(t.TempDir(), "socket"), netaddr.Access{})
	dialUnix(t, socket.Address.Path()).Close()
	if queued, err := (Set{socket}).Queued(); err != nil || queued != 1 {
		t.Errorf("%d in the queue, %v", queued, err)
	}
	if at, waits, err := (Set{socket}).Oldest(); err != nil || at.IsValid() {
		t.Errorf("%s waits for %s, %v", at, waits, err)
	}
}

// TestUnixShutDown: the kernel takes no clients of such a socket any more, whoever listens again; it is told, and does not keep
// whoever watches busy.
func TestUnixShutDown(t *testing.T) {
	t.Parallel()
	socket, other := unixAt(t, filepath.Join(t.TempDir(), "socket"), netaddr.Access{}), unixAt(t, filepath.Join(t.TempDir(), "other"), netaddr.Access{})
	watch, err := Set{socket, other}.Watch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if err := socket.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) }); err != nil {
		t.Fatal(err)
	}
	dialUnix(t, other.Address.Path())
	if waiting, err := watch.Waiting(); err != nil || fmt.Sprint(waiting) != fmt.Sprint(Set{other}) {
		t.Errorf("%s waits, %v", waiting, err)
	}
	if !socket.Dead() || other.Dead() {
		t.Errorf("dead: %t, the other %t", socket.Dead(), other.Dead())
	}
	if err := socket.Listen(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("unix", socket.Address.Path()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a client: %v: it can be mended by now", err)
	}
}
