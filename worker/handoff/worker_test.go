package handoff_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/shim"
	"openclaw-gateway/worker/proctree"
)

// bound is how long a test waits for an event that must come.
const bound = 30 * time.Second

// node is the program that the tests hand sockets to.
func node(t *testing.T) string {
	t.Helper()
	name := os.Getenv("NODE")
	if name == "" {
		name = "node"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("these tests need Node.js, in the PATH or named by the environment variable NODE: %v", err)
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// start is what a worker is started from.
type start struct {
	kind      handoff.Kind
	besides   handoff.Besides
	gate      handoff.Gate
	sockets   []handoff.Socket
	path      string // of the program
	arguments []string
	environ   []string
	directory string // the launcher's runtime directory; a new one if it is empty
	deaf      bool   // the launcher does not listen to the reports
}

// worker is a process that was started with the sockets.
type worker struct {
	t       *testing.T
	pid     int
	handoff handoff.Handoff
	control string // the name of the shim's control socket
	sent    error  // what Send returned
	stdin   *os.File
	lines   chan string
	reports chan handoff.Report
	ended   chan *os.ProcessState

	mu     sync.Mutex
	seen   []string // all that it said and reported
	stderr bytes.Buffer
}

// run starts a worker, as the launcher does.
func (s start) run(t *testing.T) *worker {
	t.Helper()
	if s.directory == "" {
		s.directory = t.TempDir()
	}
	environ := slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=/", quick}, s.environ)
	var pid atomic.Int64
	members := func() []int { return proctree.Tree(int(pid.Load())) }
	given, err := handoff.New(s.kind, s.besides, s.gate, s.sockets, environ, s.directory, members)
	if err != nil {
		t.Fatal(err)
	}
	local, remote, err := handoff.ShimControl()
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if err := local.SetDeadline(time.Now().Add(bound)); err != nil {
		t.Fatal(err)
	}
	name := socketName(t, remote)
	stdin, stdout, stderr := pipe(t), pipe(t), pipe(t)
	argv := append([]string{s.path}, s.arguments...)
	first, firstArgv := s.path, argv
	attributes := &os.ProcAttr{
		Files: slices.Concat([]*os.File{stdin.reader, stdout.writer, stderr.writer}, given.Files()), Env: override(environ, given.Env()),
	}
	if given.Shim() != nil {
		first, firstArgv = "/proc/self/exe", []string{"gateway", "shim"}
		attributes.Files = append(attributes.Files, remote)
		attributes.Env = append(attributes.Env, shim.Variable+"="+strconv.Itoa(len(attributes.Files)-1))
	}
	process, err := os.StartProcess(first, firstArgv, attributes)
	if err != nil {
		t.Fatal(err)
	}
	pid.Store(int64(process.Pid))
	given.Started(process.Pid)
	for _, file := range []*os.File{remote, stdin.reader, stdout.writer, stderr.writer} {
		_ = file.Close()
	}
	w := &worker{
		t: t, pid: process.Pid, handoff: given, control: name, stdin: stdin.writer,
		lines: make(chan string, 1000), reports: make(chan handoff.Report, 1000), ended: make(chan *os.ProcessState, 1),
	}
	if s.deaf {
		_ = given.Reports().Close()
	}
	var reading sync.WaitGroup
	reading.Go(func() { w.readLines(stdout.reader) })
	reading.Go(func() { w.readErrors(stderr.reader) })
	if given.Reports() != nil && !s.deaf {
		reading.Go(w.readReports)
	} else {
		close(w.reports)
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		state, err := process.Wait()
		if err != nil {
			w.note("wait: " + err.Error())
		}
		reading.Wait()
		w.ended <- state
	}()
	t.Cleanup(func() {
		_ = process.Kill()
		_ = w.stdin.Close()
		<-reaped
	})
	if given.Shim() != nil {
		w.sent = handoff.Send(local, shim.Command{
			Path: s.path, Argv: argv, Env: append(override(environ, given.Env()), "LISTEN_PID="+strconv.Itoa(process.Pid)),
		}, *given.Shim())
	}
	return w
}

// override returns environ with the entries of more in place of its own.
func override(environ, more []string) []string {
	for _, entry := range more {
		key, _, _ := strings.Cut(entry, "=")
		environ = slices.DeleteFunc(slices.Clone(environ), func(other string) bool { return strings.HasPrefix(other, key+"=") })
	}
	return slices.Concat(environ, more)
}

type ends struct{ reader, writer *os.File }

func pipe(t *testing.T) ends {
	t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = reader.Close(), writer.Close() })
	return ends{reader, writer}
}

func (w *worker) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, what)
}

func (w *worker) readLines(stdout io.Reader) {
	defer close(w.lines)
	for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
		w.note("said " + scanner.Text())
		w.lines <- scanner.Text()
	}
}

func (w *worker) readErrors(stderr io.Reader) {
	for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
		w.mu.Lock()
		w.stderr.WriteString(scanner.Text() + "\n")
		w.mu.Unlock()
	}
}

func (w *worker) readReports() {
	defer close(w.reports)
	defer w.handoff.Close()
	for {
		report, err := w.handoff.Reports().Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			w.note("report: " + err.Error())
			return
		}
		encoded, _ := json.Marshal(report)
		w.note("reported " + string(encoded))
		w.reports <- report
	}
}

func (w *worker) fatalf(format string, arguments ...any) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Logf("all that was seen:\n%s\nstandard error:\n%s", strings.Join(w.seen, "\n"), w.stderr.String())
	w.t.Fatalf(format, arguments...)
}

// errors returns the standard error of a worker that has ended.
func (w *worker) errors() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stderr.String()
}

// command is a line for testdata/servers.cjs.
type command struct {
	Do        string    `json:"do"`
	ID        string    `json:"id"`
	Kind      string    `json:"kind,omitempty"`
	Args      []any     `json:"args,omitempty"`
	Callback  bool      `json:"callback,omitempty"`
	Abortable bool      `json:"abortable,omitempty"`
	Commands  []command `json:"commands,omitempty"`
}

func (w *worker) tell(commands ...command) {
	w.t.Helper()
	for _, c := range commands {
		line, err := json.Marshal(c)
		if err != nil {
			w.t.Fatal(err)
		}
		w.note("told " + string(line))
		if _, err := w.stdin.Write(append(line, '\n')); err != nil {
			w.fatalf("tell the worker: %v", err)
		}
	}
}

// line is what a worker of testdata says.
type line struct {
	Event   string `json:"event"`
	ID      string `json:"id"`
	Address any    `json:"address"` // what server.address() returned
	Socket  string `json:"socket"`
	Code    string `json:"code"`
	Syscall string `json:"syscall"`
	Failed  string `json:"failed"`
	Port    int    `json:"port"`

	Listeners   int               `json:"listeners"`
	Environment *string           `json:"environment"`
	Order       *string           `json:"order"`
	Options     *string           `json:"options"`
	Title       string            `json:"title"`
	Descriptors map[string]string `json:"descriptors"`
}

// text waits for the next line.
func (w *worker) text() string {
	w.t.Helper()
	select {
	case text, open := <-w.lines:
		if !open {
			w.fatalf("the worker says nothing any more")
		}
		return text
	case <-time.After(bound):
		w.fatalf("the worker said nothing in %s", bound)
	}
	return ""
}

// says waits for the next line, which must tell of event.
func (w *worker) says(event string) line {
	w.t.Helper()
	text := w.text()
	var said line
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		w.fatalf("the worker said %q: %v", text, err)
	}
	if said.Event != event {
		w.fatalf("the worker said %q, not that of %s", text, event)
	}
	return said
}

// reported waits for the next report.
func (w *worker) reported(want handoff.Report) {
	w.t.Helper()
	select {
	case got, open := <-w.reports:
		if !open {
			w.fatalf("the worker reports nothing any more, not %+v", want)
		}
		if got != want {
			w.fatalf("the worker reported\n%+v, not\n%+v", got, want)
		}
	case <-time.After(bound):
		w.fatalf("the worker reported nothing in %s, not %+v", bound, want)
	}
}

// exits waits until the worker has ended with an exit code.
func (w *worker) exits(code int) {
	w.t.Helper()
	select {
	case state := <-w.ended:
		if state == nil || state.ExitCode() != code {
			w.fatalf("the worker ended with %v, not with code %d", state, code)
		}
	case <-time.After(bound):
		w.fatalf("the worker did not end in %s", bound)
	}
}

// ends waits until the worker has ended with an exit code, and nothing that it
// said or reported is left.
func (w *worker) ends(code int) {
	w.t.Helper()
	w.exits(code)
	for text := range w.lines {
		w.fatalf("the worker said %q besides", text)
	}
	for report := range w.reports {
		w.fatalf("the worker reported %+v besides", report)
	}
}

// finish ends a worker that ends with its standard input.
func (w *worker) finish() {
	w.t.Helper()
	_ = w.stdin.Close()
	w.ends(0)
}

func listening(address netaddr.Address) handoff.Report {
	return handoff.Report{Event: handoff.Listening, Address: address, Held: true}
}

func closed(address netaddr.Address) handoff.Report {
	return handoff.Report{Event: handoff.Closed, Address: address, Held: true}
}
