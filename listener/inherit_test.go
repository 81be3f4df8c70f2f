package listener_test

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/test/sockets"
)

// passTo passes files to a child that inherits them, as systemd would.
func passTo(t *testing.T, files []*os.File, environ ...string) inherited {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	// The race detector lets a process linger for a second otherwise.
	cmd.Env = append(environ, "GORACE=atexit_sleep_ms=0", inheritEnv+"="+strconv.Itoa(len(files)), "LISTEN_PIDFDID=4711")
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var found inherited
	if err := json.Unmarshal(output, &found); err != nil {
		t.Fatalf("the child said %q: %v", output, err)
	}
	if len(found.Environment) > 0 {
		t.Errorf("the environment still has %q", found.Environment)
	}
	if len(found.Inheritable) > 0 {
		t.Errorf("a child of the child would inherit %d", found.Inheritable)
	}
	if !found.Again {
		t.Error("the sockets can be inherited twice")
	}
	found.Again = false
	return found
}

// other makes a descriptor that is no listening TCP socket.
func other(t *testing.T, f func() (int, error)) *os.File {
	t.Helper()
	fd, err := f()
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "other")
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func socketOf(family, kind int, name unix.Sockaddr) func() (int, error) {
	return func() (int, error) {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil || name == nil {
			return fd, err
		}
		return fd, unix.Bind(fd, name)
	}
}

func TestInherit(t *testing.T) {
	t.Parallel()
	four, six := listen(t, "127.0.0.1"), listen(t, "::1")
	loopback := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	connected := dial(t, four)
	accepted, err := connected.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	path := t.TempDir() + "/socket"
	names := []string{"first", "second"}
	good := func(open ...int) inherited {
		var given []string
		for _, fd := range open {
			given = append(given, append(names, "", "")[fd-3])
		}
		return inherited{
			Addresses: []string{four.Address.String(), six.Address.String()}, Inodes: []uint64{four.Inode, six.Inode}, Names: given, Open: open,
		}
	}
	for _, test := range []struct {
		name    string
		files   []*os.File
		want    inherited
		refused []string // for each a part of it
	}{
		{"good", []*os.File{four.File, six.File}, good(3, 4), nil},
		{
			"UDP",
			[]*os.File{four.File, other(t, socketOf(unix.AF_INET, unix.SOCK_DGRAM, loopback)), six.File},
			good(3, 5),
			[]string{"passed descriptor 4 (second) is not a stream socket (127.0.0.1:"},
		},
		{
			"unix, not listening",
			[]*os.File{other(t, socketOf(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: path})), four.File, six.File},
			good(4, 5),
			[]string{"passed descriptor 3 (first) is not a listening socket (unix:" + path + ")"},
		},
		{
			"abstract",
			[]*os.File{other(t, socketOf(unix.AF_UNIX, unix.SOCK_STREAM, &unix.SockaddrUnix{Name: "@" + path})), four.File, six.File},
			good(4, 5),
			[]string{"passed descriptor 3 (first) is an abstract unix socket (unix:@" + path + ")"},
		},
		{
			"netlink",
			[]*os.File{four.File, six.File, other(t, socketOf(unix.AF_NETLINK, unix.SOCK_RAW, nil))},
			good(3, 4),
			[]string{"passed descriptor 5 (LISTEN_FD_5) is a socket of another family"},
		},
		{
			"connected",
			[]*os.File{four.File, six.File, accepted},
			good(3, 4),
			[]string{"passed descriptor 5 (LISTEN_FD_5) is not a listening socket (127.0.0.1:"},
		},
		{
			"not listening",
			[]*os.File{four.File, other(t, socketOf(unix.AF_INET, unix.SOCK_STREAM, loopback)), six.File},
			good(3, 5),
			[]string{"passed descriptor 4 (second) is not a listening socket (127.0.0.1:"},
		},
		{
			"pipe",
			[]*os.File{four.File, pipe(t), six.File},
			good(3, 5),
			[]string{"passed descriptor 4 (second) is not a socket"},
		},
		{
			"twice",
			[]*os.File{four.File, six.File, four.File, six.File},
			good(3, 4),
			[]string{"listens on " + four.Address.String() + " a second time", "listens on " + six.Address.String() + " a second time"},
		},
		{
			"nothing good",
			[]*os.File{pipe(t)},
			inherited{},
			[]string{"the socket unit should have nothing but ListenStream= lines"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := passTo(t, test.files, "LISTEN_FDS="+strconv.Itoa(len(test.files)), "LISTEN_FDNAMES=first:second")
			for i, part := range test.refused {
				if i < len(got.Refused) && !strings.Contains(got.Refused[i], part) {
					t.Errorf("the sentence is %q, without %q", got.Refused[i], part)
				}
			}
			if len(got.Refused) != len(test.refused) {
				t.Errorf("refused: %q", got.Refused)
			}
			got.Refused = nil
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("the child found (-want +got):\n%s", diff)
			}
			if !sockets.Blocking(t, four.File) || !sockets.Blocking(t, six.File) {
				t.Error("the sockets are not blocking any more")
			}
		})
	}
}

func TestInheritNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		environ []string
	}{
		{"no variables", nil},
		{"no sockets", []string{"LISTEN_FDS=0"}},
		{"nonsense", []string{"LISTEN_FDS=some"}},
		{"for another process", []string{"LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=a"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := passTo(t, nil, test.environ...)
			want := inherited{Error: listener.ErrNoSockets.Error(), NoSockets: true}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the child found (-want +got):\n%s", diff)
			}
		})
	}
}
