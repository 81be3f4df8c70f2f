package intercept_test

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
	"openclaw-gateway/worker/proctree"
)

// limit is how long a test waits for an event that must come.
const limit = 30 * time.Second

// programVariable makes the test's own program one of those that are tested with.
const programVariable = "INTERCEPT_TEST_PROGRAM"

// programs are those that are tested with; each gets arguments, and returns its exit status.
var programs = map[string]func(arguments []string) int{
	"edges": func(arguments []string) int { return doEdges(arguments[0]) },
	"wait": func([]string) int {
		_, _ = io.Copy(io.Discard, os.Stdin)
		return 0
	},
	"bind": func(arguments []string) int {
		at := netip.MustParseAddrPort(arguments[0])
		fd := tcp4()
		fmt.Print(named(unix.Bind(fd, v4(at.Addr().String(), at.Port()))))
		return 0
	},
}

// The first thread is main's, as in the launcher: others look at its table of descriptors for the process's (pidfd_getfd(2)), and a thread
// that puts a watch back has one of its own.
func init() { runtime.LockOSThread() }

// TestMain makes the test's own program the shim, as the launcher's is, and the programs.
func TestMain(m *testing.M) {
	if name := os.Getenv(programVariable); name != "" {
		runtime.UnlockOSThread()
		os.Exit(programs[name](os.Args[1:]))
	}
	os.Exit(m.Run())
}

func environment(name string) []string {
	return []string{programVariable + "=" + name, "GORACE=atexit_sleep_ms=0", "PATH=" + os.Getenv("PATH")}
}

// program is one that is started without a filter, or from under one.
func program(name string, arguments ...string) *exec.Cmd {
	command := exec.Command("/proc/self/exe", arguments...)
	command.Env, command.Stderr = environment(name), os.Stderr
	return command
}

// worker is a program under the filter.
type worker struct {
	t       *testing.T
	process *os.Process
	handoff handoff.Handoff
	sent    chan error // what Send has returned
	stdin   *os.File
	stdout  *os.File
	ended   chan *os.ProcessState
}

// start starts one as the launcher does, with the sockets held for it.
func start(t *testing.T, held []sockets.Held, name string, arguments ...string) *worker {
	t.Helper()
	return startWith(t, held, nil, name, arguments...)
}

// startWith lets the test change what the shim is told.
func startWith(t *testing.T, held []sockets.Held, change func(*handoff.Filter), name string, arguments ...string) *worker {
	t.Helper()
	return startAt(t, handoff.NoGate, held, change, name, arguments...)
}

func startAt(t *testing.T, gate handoff.Gate, held []sockets.Held, change func(*handoff.Filter), name string, arguments ...string) *worker {
	t.Helper()
	w := &worker{t: t, sent: make(chan error, 1), ended: make(chan *os.ProcessState, 1)}
	var given []handoff.Socket
	for _, socket := range held {
		given = append(given, handoff.Socket{File: socket.File, Address: socket.Address})
	}
	pid := make(chan int, 1)
	members := func() []int {
		main := <-pid
		pid <- main
		return proctree.Tree(main)
	}
	var err error
	if w.handoff, err = handoff.New(handoff.Intercept, handoff.Nothing, gate, given, nil, t.TempDir(), members); err != nil {
		t.Fatal(err)
	}
	order := *w.handoff.Shim()
	filter := *order.Filter
	order.Filter = &filter
	if change != nil {
		change(&filter)
	}
	local, remote, err := handoff.ShimControl()
	if err != nil {
		t.Fatal(err)
	}
	var stdout *os.File
	if w.stdout, stdout, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	var stdin *os.File
	if stdin, w.stdin, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	w.process, err = os.StartProcess("/proc/self/exe", []string{"gateway", "shim"}, &os.ProcAttr{
		Files: []*os.File{stdin, stdout, os.Stderr, remote}, Env: []string{"GORACE=atexit_sleep_ms=0", shim.Variable + "=3"},
	})
	if err := errors.Join(err, stdin.Close(), stdout.Close(), remote.Close()); err != nil {
		t.Fatal(err)
	}
	pid <- w.process.Pid
	go func() {
		state, err := w.process.Wait()
		if err != nil {
			t.Error(err)
		}
		w.ended <- state
		close(w.ended)
	}()
	t.Cleanup(func() {
		_ = w.process.Kill()
		<-w.ended
		if err := errors.Join(w.handoff.Close(), w.stdin.Close(), w.stdout.Close()); err != nil && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	})
	go func() {
		defer local.Close()
		w.sent <- handoff.Send(local, shim.Command{Path: "/proc/self/exe", Argv: append([]string{name}, arguments...), Env: environment(name)}, order)
	}()
	return w
}

// executed waits until the shim has become the program.
func (w *worker) executed() {
	w.t.Helper()
	select {
	case err := <-w.sent:
		w.sent <- err // for the next one who asks
		if err != nil {
			w.t.Fatal(err)
		}
	case <-time.After(limit):
		w.t.Fatal("the shim has not become the program")
	}
}

// output is all that it says.
func (w *worker) output() string {
	w.t.Helper()
	w.executed()
	if err := w.stdout.SetReadDeadline(time.Now().Add(3 * limit)); err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(w.stdout)
	if err != nil {
		w.t.Fatalf("it said %q, then: %v", text, err)
	}
	return string(text)
}

func (w *worker) ends(code int) {
	w.t.Helper()
	select {
	case state := <-w.ended:
		if state.ExitCode() != code {
			w.t.Errorf("it ended with %s", state)
		}
	case <-time.After(limit):
		w.t.Fatal("it does not end")
	}
}

// tell writes a line for the program to read.
func (w *worker) tell(line string) {
	w.t.Helper()
	if _, err := fmt.Fprintln(w.stdin, line); err != nil {
		w.t.Fatal(err)
	}
}

// reported waits for a report.
func (w *worker) reported(want handoff.Report) {
	w.t.Helper()
	w.reportedOneOf(want)
}

func (w *worker) reportedOneOf(want ...handoff.Report) (report handoff.Report) {
	w.t.Helper()
	got := make(chan handoff.Report, 1)
	go func() {
		report, err := w.handoff.Reports().Next()
		if err != nil {
			report.Detail = err.Error()
		}
		got <- report
	}()
	select {
	case report = <-got:
		if !slices.Contains(want, report) {
			w.t.Fatalf("reported %+v, want %+v", report, want)
		}
	case <-time.After(limit):
		w.t.Fatalf("%+v is not reported", want)
	}
	return report
}
