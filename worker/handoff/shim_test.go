package handoff_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
)

// shell makes a start of a script for /bin/sh with the sockets.
func shell(script string, sockets ...handoff.Socket) start {
	return start{kind: handoff.ListenFDs, sockets: sockets, path: "/bin/sh", arguments: []string{"-c", script}}
}

func TestListenFDsTellsTheProtocol(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1", "::1")
	w := shell(`echo "$$ $LISTEN_PID $LISTEN_FDS $LISTEN_FDNAMES"; readlink /proc/$$/fd/3 /proc/$$/fd/4`, sockets...).run(t)
	if w.sent != nil {
		t.Fatal(w.sent)
	}
	want := fmt.Sprintf("%d %[1]d 2 gateway:gateway", w.pid)
	if got := w.text(); got != want {
		t.Errorf("the worker has %q, not %q", got, want)
	}
	for _, socket := range sockets {
		if got, want := w.text(), socketName(t, socket.File); got != want {
			t.Errorf("the descriptor of %s is %s, not %s", socket.Address, got, want)
		}
	}
	w.ends(0)
}

// A worker that speaks the protocol serves clients, also one that was there
// before it.
func TestListenFDsServesAQueuedClient(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	client := dial(t, sockets[0].Address)
	// Perl is part of every Debian and RPM system's base, and accepts on a
	// descriptor in four lines.
	const script = `
		open(my $held, "+<&=", 3) or die "descriptor 3: $!";
		accept(my $client, $held) or die "accept: $!";
		syswrite($client, "answered");
		close($client);`
	w := start{kind: handoff.ListenFDs, sockets: sockets, path: lookPath(t, "perl"), arguments: []string{"-e", script}}.run(t)
	if w.sent != nil {
		t.Fatal(w.sent)
	}
	if got := readAll(t, client); got != "answered" {
		w.fatalf("the client was answered with %q", got)
	}
	w.ends(0)
}

func TestCommandInheritsNothingElse(t *testing.T) {
	t.Parallel()
	sockets := hold(t, "127.0.0.1")
	w := shell(`for fd in /proc/$$/fd/*; do readlink "$fd"; done; true`, sockets...).run(t)
	if w.sent != nil {
		t.Fatal(w.sent)
	}
	w.exits(0)
	held := socketName(t, sockets[0].File)
	seen := 0
	for text := range w.lines {
		switch text {
		case held:
			seen++
		case w.control:
			t.Error("the command has the shim's control socket")
		}
	}
	if seen != 1 {
		t.Errorf("the command has the held socket %d times", seen)
	}
}

func TestSocketsKeepTheirMode(t *testing.T) {
	t.Parallel()
	for _, want := range []bool{false, true} {
		t.Run(fmt.Sprintf("nonblocking %t", want), func(t *testing.T) {
			t.Parallel()
			given := hold(t, "127.0.0.1")[0]
			control(t, given.File, func(fd int) error { return unix.SetNonblock(fd, want) })
			// As the launcher comes by it: os.NewFile looks at the mode.
			duplicate := -1
			control(t, given.File, func(fd int) (err error) {
				duplicate, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
				return err
			})
			file := os.NewFile(uintptr(duplicate), "held")
			t.Cleanup(func() { _ = file.Close() })
			w := shell(`grep flags: /proc/self/fdinfo/3`, handoff.Socket{File: file, Address: given.Address}).run(t)
			if w.sent != nil {
				t.Fatal(w.sent)
			}
			text := w.text()
			flags, err := strconv.ParseInt(strings.TrimSpace(strings.TrimPrefix(text, "flags:")), 8, 64)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			if got := flags&unix.O_NONBLOCK != 0; got != want {
				t.Errorf("for the worker the socket is nonblocking: %t", got)
			}
			if got := !blocking(t, given.File); got != want {
				t.Errorf("for the holder the socket is nonblocking: %t", got)
			}
			w.ends(0)
		})
	}
}

func TestArgumentsAndEnvironmentAreBytes(t *testing.T) {
	t.Parallel()
	s := shell(`printf '%s\n' "$NAME" "$1" "$2"`)
	s.environ = []string{"NAME=caf\xe9"}
	s.arguments = append(s.arguments, "sh", "\xff\xfe", "")
	w := s.run(t)
	if w.sent != nil {
		t.Fatal(w.sent)
	}
	for _, want := range []string{"caf\xe9", "\xff\xfe", ""} {
		if got := w.text(); got != want {
			t.Errorf("the command got %q, not %q", got, want)
		}
	}
	w.ends(0)
}

func TestSendManyArguments(t *testing.T) {
	t.Parallel()
	s := shell(`echo $#`)
	// More than the buffer of a socket holds.
	s.arguments = append(s.arguments, "sh")
	s.arguments = append(s.arguments, slices.Repeat([]string{strings.Repeat("x", 1000)}, 1000)...)
	w := s.run(t)
	if w.sent != nil {
		t.Fatal(w.sent)
	}
	if got := w.text(); got != "1000" {
		t.Errorf("the command got %s arguments", got)
	}
	w.ends(0)
}

func TestShimCannotExecute(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, test := range []struct {
		name, path string
		code       int
		says       string
	}{
		{"missing", filepath.Join(directory, "missing"), 127, "no such file or directory"},
		{"missing interpreter", write("orphaned", "#!/missing/interpreter\n", 0o755), 127, "the interpreter that it names is missing"},
		{"not executable", write("plain", "#!/bin/sh\n", 0o644), 126, "permission denied"},
		{"directory", directory, 126, "permission denied"},
		{"NUL", "/bin/\x00true", 126, "NUL character"},
		{"no interpreter", write("nameless", "echo hello\n", 0o755), 126, "a script needs a first line such as #!/bin/sh"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := start{kind: handoff.ListenFDs, path: test.path}.run(t)
			if w.sent == nil {
				t.Fatal("Send returned no error")
			}
			for _, part := range []string{"execute " + test.path + ":", test.says} {
				if !strings.Contains(w.sent.Error(), part) {
					t.Errorf("the error is %q, without %q", w.sent, part)
				}
			}
			w.ends(test.code)
		})
	}
}

// The launcher can be killed between starting the shim and sending the command.
func TestShimWithoutLauncher(t *testing.T) {
	t.Parallel()
	whole := shim.Encode(shim.Command{Path: "/bin/true", Argv: []string{"true"}, Env: []string{"NAME=value"}})
	for sent := 0; sent < len(whole); sent += 5 {
		local, remote, err := handoff.ShimControl()
		if err != nil {
			t.Fatal(err)
		}
		process, err := os.StartProcess("/proc/self/exe", []string{"gateway", "shim"},
			&os.ProcAttr{Files: []*os.File{nil, nil, os.Stderr, remote}, Env: []string{quick, shim.Variable + "=3"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = remote.Close()
		_, err = local.Write(whole[:sent])
		_ = local.Close()
		if err != nil {
			t.Fatal(err)
		}
		state, err := process.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if state.ExitCode() != 126 {
			t.Errorf("after %d of %d bytes of the command the shim ended with %s", sent, len(whole), state)
		}
	}
}

func TestShimByHand(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{quick, shim.Variable + "=x"}
	output, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 126 {
		t.Errorf("the shim ended with %v", err)
	}
	if !strings.Contains(string(output), "GATEWAY_SHIM=x is no descriptor") {
		t.Errorf("the shim said %q", output)
	}
}

func TestNewRefusesTheOthers(t *testing.T) {
	t.Parallel()
	if _, err := handoff.New("", handoff.Nothing, handoff.NoGate, nil, nil, t.TempDir(), nil); err == nil {
		t.Error("a handoff without a kind was made")
	}
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("this test needs %s: %v", name, err)
	}
	return path
}
