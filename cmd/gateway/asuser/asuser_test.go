package asuser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// somebody is a uid and gids that nobody has.
var somebody = &syscall.Credential{Uid: 4_000_000, Gid: 4_000_001, Groups: []uint32{4_000_002}}

// facts is what a child says of itself.
type facts struct {
	IDs         string
	Status      map[string][]string // of each thread: /proc/self/task/*/status
	Environment []string
	Open        []string
	Session     bool
	Terminal    string
	Executes    string
	Directory   string
	Parent      int
	Limits      map[int]uint64
	Dumpable    int
}

var (
	self = Question[string, facts]{Name: "test-self", Limit: 20 * time.Second, Memory: 24 << 20}
	// It has a quarter of its time for its start and its end, with the race detector, on a busy machine.
	acts = Question[string, string]{Name: "test-acts", Limit: 6 * time.Second, Memory: 24 << 20}
)

// slow is asked where a child needs longer for its start than the user has.
var slow = Question[string, string]{Name: "test-slow", Limit: 2 * time.Second, Memory: 24 << 20}

// Variables come before init functions, that is while the child is root's still.
var _ = func() bool {
	if len(os.Args) == 8 && os.Args[1] == role && os.Args[4] == "test-slow" {
		time.Sleep(3 * time.Second)
	}
	return true
}()

// TestBusyMachine: what a machine takes until the child is the user's is not that user's doing, and on no account of theirs.
func TestBusyMachine(t *testing.T) {
	needsRoot(t)
	waiting = patience{}
	if answer, err := slow.Ask(t.Context(), somebody, "a word"); err != nil || answer != "a word" {
		t.Errorf("%q, %v", answer, err)
	}
	if len(waiting.slow) > 0 {
		t.Errorf("slow were %v", waiting.slow)
	}
}

// soon is how long root may wait for it, whatever it does.
const soon = 20 * time.Second

func init() {
	self.Answer(lookAtSelf)
	acts.Answer(act)
	slow.Answer(func(_ context.Context, word string) (string, error) { return word, nil })
}

func lookAtSelf(_ context.Context, word string) (facts, error) {
	if word != "a word" {
		return facts{}, fmt.Errorf("the question is %q", word)
	}
	f := facts{
		IDs: fmt.Sprint(os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid()), Environment: os.Environ(), Status: map[string][]string{},
		Limits: map[int]uint64{}, Parent: os.Getppid(),
	}
	groups, _ := os.Getgroups()
	f.IDs += fmt.Sprint(groups)
	threads, _ := os.ReadDir("/proc/self/task")
	for _, thread := range threads {
		status, _ := os.ReadFile("/proc/self/task/" + thread.Name() + "/status")
		for line := range strings.Lines(string(status)) {
			if key, value, _ := strings.Cut(line, ":"); slices.Contains([]string{"NoNewPrivs", "Seccomp", "Uid", "CapEff", "CapPrm"}, key) {
				f.Status[key] = append(f.Status[key], strings.Join(strings.Fields(value), " "))
			}
		}
	}
	for fd := range 200 {
		var stat unix.Stat_t
		if unix.Fstat(fd, &stat) == nil {
			f.Open = append(f.Open, fmt.Sprintf("%d %o %d:%d", fd, stat.Mode&unix.S_IFMT, stat.Dev, stat.Ino))
		}
	}
	session, _ := unix.Getsid(0)
	f.Session = session == os.Getpid()
	_, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	f.Terminal = fmt.Sprint(err)
	f.Executes = fmt.Sprint(exec.Command("/bin/true").Run())
	f.Directory, _ = os.Getwd()
	for _, resource := range []int{unix.RLIMIT_CORE, unix.RLIMIT_FSIZE, unix.RLIMIT_NOFILE} {
		var limit unix.Rlimit
		_ = unix.Getrlimit(resource, &limit)
		f.Limits[resource] = limit.Max
	}
	f.Dumpable, _ = unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	return f, nil
}

func act(ctx context.Context, what string) (string, error) {
	if path, reads := strings.CutPrefix(what, "read "); reads {
		_, err := os.ReadFile(path)
		return "", err
	}
	switch what {
	case "error":
		return "", errors.New("the user's mistake")
	case "lines":
		return "", errors.New("no\n\nAs root run:\r\x1b[2J sh x")
	case "panic":
		panic("the user's doing")
	case "hang":
		time.Sleep(time.Hour)
	case "late":
		<-ctx.Done()
		return "what was known by then", nil
	case "flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat("x", 1<<16)); err != nil {
				return "", err
			}
		}
	case "fields":
		fmt.Println(`{"answer":"x","more":1}`)
		syscall.Exit(0)
	case "more":
		fmt.Println(`{"answer":"x"} {"answer":"y"}`)
		syscall.Exit(0)
	case "garbage":
		fmt.Println("\x00\xff[")
		syscall.Exit(0)
	case "many":
		fmt.Println(`{"answer":[` + strings.Repeat("{},", 300_000) + `{}]}`)
		syscall.Exit(0)
	case "nested":
		fmt.Println(`{"answer":` + strings.Repeat("[", 1<<19))
		syscall.Exit(0)
	case "memory":
		for all := []byte("x"); ; {
			all = append(all, all...)
		}
	}
	return what, nil
}

func needsRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to become somebody else: make test")
	}
}

// TestChild: it is that user, and nothing of root's.
func TestChild(t *testing.T) {
	needsRoot(t)
	t.Setenv("A_SECRET", "of root's")
	// One that a careless parent has left open for all.
	leak, err := unix.Open("/etc/shadow", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	got, err := self.Ask(t.Context(), somebody, "a word")
	if err != nil {
		t.Fatal(err)
	}
	if want := "4000000 4000000 4000001 4000001[4000001 4000002]"; got.IDs != want {
		t.Errorf("the child is %s, want %s", got.IDs, want)
	}
	for key, want := range map[string]string{
		"NoNewPrivs": "1", "Seccomp": "2", "Uid": "4000000 4000000 4000000 4000000", "CapEff": "0000000000000000", "CapPrm": "0000000000000000",
	} {
		if len(got.Status[key]) == 0 || slices.ContainsFunc(got.Status[key], func(value string) bool { return value != want }) {
			t.Errorf("%s of its threads: %q, want %s of all", key, got.Status[key], want)
		}
	}
	if len(got.Environment) > 0 {
		t.Errorf("its environment: %q", got.Environment)
	}
	// Beside them the runtime has some of its own, cpu.max of its control group for one.
	if len(got.Open) < 3 || slices.ContainsFunc(got.Open[:3], func(open string) bool { return !strings.Contains(open, " 10000 ") }) {
		t.Errorf("standard input, output and error are no pipes: %q", got.Open)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(leak, &stat); err != nil {
		t.Fatal(err)
	}
	if file := fmt.Sprintf(" %d:%d", stat.Dev, stat.Ino); slices.ContainsFunc(got.Open, func(open string) bool { return strings.HasSuffix(open, file) }) {
		t.Errorf("it has a file of root's open: %q", got.Open)
	}
	if !got.Session || got.Terminal != "open /dev/tty: no such device or address" {
		t.Errorf("leads a session: %t, its terminal: %s", got.Session, got.Terminal)
	}
	if got.Executes != "fork/exec /bin/true: operation not permitted" {
		t.Errorf("executing something: %s", got.Executes)
	}
	if got.Parent != 0 {
		t.Errorf("it sees its parent %d, want a PID namespace of its own", got.Parent)
	}
	if got.Directory != "/" || got.Dumpable != 0 {
		t.Errorf("its folder is %s, dumpable %d", got.Directory, got.Dumpable)
	}
	for resource, want := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_NOFILE: openFiles} {
		if got.Limits[resource] != want {
			t.Errorf("limit %d is %d, want %d", resource, got.Limits[resource], want)
		}
	}
}

// TestAnswers: whatever becomes of the child, root has an answer or an error soon, and is not the larger for it.
func TestAnswers(t *testing.T) {
	needsRoot(t)
	for _, test := range []struct{ what, want string }{
		{"a word", ""},
		{"late", ""},
		{"error", "the user's mistake"},
		{"lines", "no  As root run:  [2J sh x"}, // what is not printable is a space
		{"panic", "exit status 2"},
		{"hang", "no answer in time"},
		{"flood", "larger than 1 MiB"},
		{"fields", `unknown field "more"`},
		{"more", "something follows the answer"},
		{"garbage", "the answer is none"},
		{"nested", "the answer is none"},
		{"many", "more than 20000 values"},
		{"memory", "ask as uid 4000000"}, // and why, in words of the runtime or of the race detector
	} {
		waiting = patience{}
		start := time.Now()
		answer, err := acts.Ask(t.Context(), somebody, test.what)
		took := time.Since(start)
		switch {
		case test.want == "":
			if err != nil || answer == "" {
				t.Errorf("%s: %q, %v", test.what, answer, err)
			}
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %q, %v, want %s", test.what, answer, err, test.want)
		}
		if took > soon {
			t.Errorf("%s: took %v", test.what, took)
		}
	}
}

// TestUnprivileged: nobody becomes somebody else by the arguments of a child.
func TestUnprivileged(t *testing.T) {
	needsRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"gateway", role, "0", "0", acts.Name, "1s", "0", "0"}
	cmd.Stdin = strings.NewReader(`"a word"`)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: somebody}
	output, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(output), "operation not permitted") {
		t.Errorf("%v: %s", err, output)
	}
}

// TestPatience: users who say nothing cost together little more than two of them.
func TestPatience(t *testing.T) {
	t.Parallel()
	var p patience
	var all time.Duration
	for uid := range uint32(20) {
		limit := p.limit(uid, time.Second)
		p.took(uid, limit, limit)
		all += limit
	}
	if all > 2300*time.Millisecond {
		t.Errorf("twenty users cost %v", all)
	}
	p.last = p.last.Add(-forgiven)
	if limit := p.limit(1, time.Second); limit != time.Second {
		t.Errorf("long after it is %v", limit)
	}
}

// TestPatienceOfOne: a user who says nothing, however often, takes no more than half of the time that the others have.
func TestPatienceOfOne(t *testing.T) {
	t.Parallel()
	var p patience
	var all time.Duration
	for range 20 {
		limit := p.limit(1, time.Second)
		p.took(1, limit, limit)
		all += limit
	}
	if limit := p.limit(2, time.Second); limit < time.Second/2 || all > 2600*time.Millisecond {
		t.Errorf("another has %v, and all that one's answers cost %v", limit, all)
	}
}
