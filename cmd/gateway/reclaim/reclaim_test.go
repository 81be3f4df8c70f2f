package reclaim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/worker/proctree"
)

// childKey makes the test binary somebody else, in one of these ways. Each keeps
// what it inherited until its standard input ends.
const (
	childKey = "RECLAIM_TEST_CHILD"

	obeys    = "obeys"    // SIGTERM
	deaf     = "deaf"     // to SIGTERM
	lets     = "lets"     // go of descriptor 3 at SIGTERM, and lives on
	reclaims = "reclaims" // the address in RECLAIM_TEST_ADDRESS, by force, and prints the result
)

// bound is for what takes a moment on an idle machine.
const bound = time.Minute

func TestMain(m *testing.M) {
	switch os.Getenv(childKey) {
	case obeys:
	case deaf:
		signal.Ignore(unix.SIGTERM)
	case lets:
		terminated := make(chan os.Signal, 1)
		signal.Notify(terminated, unix.SIGTERM)
		go func() {
			<-terminated
			_ = unix.Close(3)
			os.Stdout.WriteString("let go\n")
		}()
	case reclaims:
		result, err := Run(context.Background(), []netaddr.Address{netaddr.MustParse(os.Getenv("RECLAIM_TEST_ADDRESS"))}, Options{Force: true})
		if err == nil {
			err = json.NewEncoder(os.Stdout).Encode(result)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	default:
		os.Exit(m.Run())
	}
	os.Stdout.WriteString("here\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

const entry = "/nowhere/node_modules/openclaw/dist/index.js"

var (
	orphan = []string{"node", entry, "gateway", "--port", "18789"}
	decoy  = []string{"python3", "/srv/openclaw.py", "gateway"}
)

// listening returns a socket that only the processes hold that are given its file.
func listening(t *testing.T, network, address string) (file *os.File, at netaddr.Address) {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if file, err = listener.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	at = netaddr.Of(listener.Addr())
	return file, netaddr.From(at.Addr().Unmap(), at.Port())
}

// child is a process that the test has started.
type child struct {
	*exec.Cmd
	output *bufio.Reader
}

func start(t *testing.T, way string, file *os.File, argv []string, change ...func(*exec.Cmd)) child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Env = argv, append(os.Environ(), childKey+"="+way, "GORACE=atexit_sleep_ms=0")
	cmd.Dir, cmd.Stderr = "/", os.Stderr
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	for _, c := range change {
		c(cmd)
	}
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		input.Close()
		_ = cmd.Wait()
	})
	c := child{cmd, bufio.NewReader(output)}
	c.says(t, "here")
	return c
}

func (c child) says(t *testing.T, want string) {
	t.Helper()
	if line, err := c.output.ReadString('\n'); strings.TrimSpace(line) != want {
		t.Fatalf("%q says %q, %v", c.Args, line, err)
	}
}

func (c child) lives(t *testing.T) bool {
	t.Helper()
	process, err := proctree.Find(c.Process.Pid)
	if err != nil {
		t.Fatal(err) // it is not reaped before the end of the test
	}
	return !process.Zombie
}

// reclaimed runs it, and returns what was done: "ending 4711 terminated".
func reclaimed(t *testing.T, address netaddr.Address, o Options) (Result, []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	var told []string
	tell := o.Tell
	o.Tell = func(e Event) {
		told = append(told, strings.TrimSpace(fmt.Sprintf("%s %d %s", e.Kind, e.Holder.PID, unix.SignalName(e.Signal))))
		if tell != nil {
			tell(e)
		}
	}
	result, err := Run(ctx, []netaddr.Address{address}, o)
	if err != nil {
		t.Fatal(err)
	}
	return result, told
}

func (o Result) reasons() map[int]Reason {
	reasons := map[int]Reason{}
	for _, obstacle := range o.Obstacles {
		reasons[obstacle.PID] = obstacle.Reason
	}
	return reasons
}

func check(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// No test runs beside another: a process that one starts has, until it is executed,
// the other's sockets open.

// TestOrphan: exactly the orphan ends, whether it listens on the address or on
// one that conflicts with it. A decoy that holds another port lives, and so does
// an OpenClaw gateway there.
func TestOrphan(t *testing.T) {
	for _, test := range []struct{ name, network, bound, asked string }{
		{"same address", "tcp4", "127.0.0.1", "127.0.0.1"},
		{"wildcard", "tcp4", "0.0.0.0", "127.0.0.1"},
		{"dual stack", "tcp", "::", "127.0.0.1"},
		{"IPv6", "tcp6", "::1", "::1"},
		{"below our wildcard", "tcp4", "127.0.0.1", "0.0.0.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file, at := listening(t, test.network, net.JoinHostPort(test.bound, "0"))
			elsewhere, _ := listening(t, "tcp4", "127.0.0.1:0")
			culprit := start(t, obeys, file, orphan)
			file.Close()
			others := []child{start(t, obeys, elsewhere, orphan), start(t, obeys, nil, orphan), start(t, obeys, elsewhere, decoy)}
			asked := netaddr.From(netip.MustParseAddr(test.asked), at.Port())

			dry, told := reclaimed(t, asked, Options{DryRun: true})
			check(t, "a dry run did", told, []string{fmt.Sprintf("ending %d SIGTERM", culprit.Process.Pid)})
			if !culprit.lives(t) || len(dry.Obstacles) > 0 {
				t.Fatalf("a dry run left %+v, and the orphan lives: %t", dry, culprit.lives(t))
			}

			result, told := reclaimed(t, asked, Options{})
			pid := culprit.Process.Pid
			check(t, "done", told, []string{fmt.Sprintf("ending %d SIGTERM", pid), fmt.Sprintf("ended %d SIGTERM", pid)})
			if len(result.Obstacles) > 0 || culprit.lives(t) {
				t.Errorf("left %+v, and the orphan lives: %t", result, culprit.lives(t))
			}
			for _, other := range others {
				if !other.lives(t) {
					t.Errorf("%v was ended, which does not hold %s", other.Args, asked)
				}
			}
			again, told := reclaimed(t, asked, Options{})
			if len(told) > 0 || len(again.Obstacles) > 0 {
				t.Errorf("a second time did %v and left %+v", told, again)
			}
		})
	}
}

// TestV6Wildcard: the socket unit binds [::] without IPv4, so nobody on 127.0.0.1
// is in its way.
func TestV6Wildcard(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	other := start(t, obeys, file, orphan)
	result, told := reclaimed(t, netaddr.From(netip.IPv6Unspecified(), at.Port()), Options{})
	if len(told) > 0 || len(result.Obstacles) > 0 || !other.lives(t) {
		t.Errorf("did %v, left %+v", told, result)
	}
}

// TestDeaf: SIGKILL comes after the bound, and not before.
func TestDeaf(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	culprit := start(t, deaf, file, orphan)
	file.Close()
	const term = 300 * time.Millisecond
	begin := time.Now()
	result, told := reclaimed(t, at, Options{Term: term, Kill: bound})
	pid := culprit.Process.Pid
	check(t, "done", told, []string{fmt.Sprintf("ending %d SIGTERM", pid), fmt.Sprintf("ending %d SIGKILL", pid), fmt.Sprintf("ended %d SIGKILL", pid)})
	if took := time.Since(begin); took < term || len(result.Obstacles) > 0 {
		t.Errorf("left %+v after %s", result, took)
	}
}

// TestLetGo: who lets go of the address is left to finish its work; whose files are closed because it ends has ended.
func TestLetGo(t *testing.T) {
	was := lastBreath
	t.Cleanup(func() { lastBreath = was })
	lastBreath = 5 * time.Second // they take it, and Term
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	works, ends, last := start(t, lets, file, orphan), start(t, lets, file, orphan), start(t, deaf, file, orphan)
	file.Close()
	result, told := reclaimed(t, at, Options{
		Term: 5 * time.Second,
		Tell: func(e Event) {
			switch {
			case e.Kind == Ending && e.Signal == unix.SIGKILL: // the others were looked at
				if err := ends.Process.Kill(); err != nil { // a signal that whoever runs the tests cannot have ignored
					t.Error(err)
				}
			case e.Kind == LetGo:
				works.says(t, "let go")
			}
		},
	})
	want := []string{fmt.Sprintf("ending %d SIGKILL", last.Process.Pid), fmt.Sprintf("ended %d SIGKILL", last.Process.Pid), fmt.Sprintf("ended %d SIGTERM", ends.Process.Pid), fmt.Sprintf("let go %d", works.Process.Pid)}
	for _, one := range []child{works, ends, last} {
		want = append(want, fmt.Sprintf("ending %d SIGTERM", one.Process.Pid))
	}
	slices.Sort(want)
	slices.Sort(told)
	check(t, "done", told, want)
	if len(result.Obstacles) > 0 || !works.lives(t) {
		t.Errorf("left %+v, and it lives: %t", result, works.lives(t))
	}
}

// TestForeign: a decoy that shares the orphan's socket lives, and is in the way;
// by force it is ended too. A launcher is not, and is not in the way.
func TestForeign(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	culprit, other := start(t, obeys, file, orphan), start(t, obeys, file, decoy)
	launcher := start(t, obeys, file, []string{"/usr/local/bin/gateway", "run"}) // the same program as this one
	file.Close()

	result, _ := reclaimed(t, at, Options{})
	check(t, "in the way", result.reasons(), map[int]Reason{other.Process.Pid: NeedsForce})
	if culprit.lives(t) || !other.lives(t) {
		t.Errorf("the orphan lives: %t, the decoy: %t", culprit.lives(t), other.lives(t))
	}
	if len(result.Ours) > 0 {
		t.Errorf("%v is said to be ours, and the decoy holds it too", result.Ours)
	}
	result, told := reclaimed(t, at, Options{Force: true})
	check(t, "done by force", told, []string{fmt.Sprintf("ending %d SIGTERM", other.Process.Pid), fmt.Sprintf("ended %d SIGTERM", other.Process.Pid)})
	check(t, "in the way", result.reasons(), map[int]Reason{})
	check(t, "ours", result.Ours, []netaddr.Address{at})

	// Before the bind the launcher is in the way too: a unit knows none that was started by hand.
	result, told = reclaimed(t, at, Options{Unbound: true})
	check(t, "in the way before the bind", result.reasons(), map[int]Reason{launcher.Process.Pid: NeedsForce})
	if len(told) > 0 || !launcher.lives(t) {
		t.Errorf("did %v to the launcher", told)
	}
}

// TestAncestor: who has started the reclaim is not ended, by force neither, and
// nor is the reclaim itself.
func TestAncestor(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	result, told := reclaimed(t, at, Options{Force: true})
	check(t, "in the way of itself", result.reasons(), map[int]Reason{os.Getpid(): Ancestor})
	if len(told) > 0 {
		t.Errorf("did %v", told)
	}
	below := exec.Command("/proc/self/exe")
	below.Env, below.Stderr = append(os.Environ(), childKey+"="+reclaims, "RECLAIM_TEST_ADDRESS="+at.String()), os.Stderr
	output, err := below.Output()
	if err == nil {
		result = Result{}
		err = json.Unmarshal(output, &result)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	check(t, "in the way of a child", result.reasons(), map[int]Reason{os.Getpid(): Ancestor})
	runtime.KeepAlive(file)
}

// TestReused: a pid that another process has got meanwhile is not signalled, and
// nor is one whose command line is another by now.
func TestReused(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	innocent := start(t, obeys, file, orphan)
	file.Close()
	r := &reclaimer{addresses: []netaddr.Address{at}, Options: Options{Tell: func(e Event) { t.Errorf("%s %v", e.Kind, e.Signal) }}}
	seen, err := r.look(t.Context())
	if err != nil || len(seen.seen) != 1 {
		t.Fatalf("%+v, %v", seen, err)
	}
	earlier, other := seen.seen[0], seen.seen[0]
	earlier.Start--
	other.Argv = append(slices.Clone(other.Argv), "--verbose")
	if err := r.end(t.Context(), []holders.Holder{earlier, other}); err != nil {
		t.Error(err)
	}
	// As if the pid had been given away between the handle and the look.
	handle, err := seen.seen[0].Open()
	if err != nil {
		t.Fatal(err)
	}
	if sent, _, err := r.signal(t.Context(), []doomed{{earlier, handle}}, unix.SIGTERM); err != nil || len(sent) > 0 {
		t.Errorf("sent to %v, %v", sent, err)
	}
	if !innocent.lives(t) {
		t.Error("it was ended")
	}
}

// TestCameBack: whoever takes the place of the one that was ended is named.
func TestCameBack(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	start(t, obeys, file, orphan)
	var next child
	result, _ := reclaimed(t, at, Options{Tell: func(e Event) {
		if e.Kind == Ended {
			next = start(t, obeys, file, orphan)
			file.Close()
		}
	}, Term: bound})
	if len(result.Obstacles) != 1 {
		t.Fatalf("left %+v", result)
	}
	check(t, "in the way", result.reasons(), map[int]Reason{next.Process.Pid: CameBack})
	check(t, "started again by", result.Obstacles[0].PPID, os.Getpid())
}

// TestNotAllowed: another user's orphan that may be seen and not signalled.
func TestNotAllowed(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	theirs := start(t, obeys, file, orphan, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	})
	file.Close()
	type answer struct {
		result Result
		told   []string
	}
	done := make(chan answer)
	go func() {
		defer close(done)
		// The thread ends with the goroutine: nobody else has to do without CAP_KILL.
		runtime.LockOSThread()
		if err := dropKill(); err != nil {
			t.Error(err)
			return
		}
		result, told := reclaimed(t, at, Options{Force: true})
		done <- answer{result, told}
	}()
	got := <-done
	check(t, "in the way", got.result.reasons(), map[int]Reason{theirs.Process.Pid: NotAllowed})
	if len(got.told) > 0 || !theirs.lives(t) {
		t.Errorf("did %v, and it lives: %t", got.told, theirs.lives(t))
	}
}

func dropKill() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_KILL
	return unix.Capset(&header, &data[0])
}

// TestContainer: a gateway in a container is its runtime's, whatever it is called.
func TestContainer(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	inside := start(t, obeys, file, orphan, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	})
	file.Close()
	result, told := reclaimed(t, at, Options{})
	check(t, "in the way", result.reasons(), map[int]Reason{inside.Process.Pid: NeedsForce})
	if len(told) > 0 || !inside.lives(t) || result.Obstacles[0].Role != api.RoleForeign {
		t.Errorf("did %v, left %+v", told, result)
	}
}

// TestHidden: a socket whose holder cannot be seen is in the way, unless it is
// known to be systemd's.
func TestHidden(t *testing.T) {
	at := netaddr.MustParse("127.0.0.1:18789")
	v := view{unseen: 7, hidden: []holders.Socket{{Socket: sockdiag.Socket{Address: at, Inode: 1, UID: 42}}}}
	for _, test := range []struct {
		options   Options
		obstacles int
	}{{Options{}, 1}, {Options{Ours: []netaddr.Address{at}}, 0}, {Options{Ours: []netaddr.Address{at}, Unbound: true}, 1}} {
		got := (&reclaimer{Options: test.options}).result(v, v, nil)
		if len(got.Obstacles) != test.obstacles || len(got.Ours) != 1-test.obstacles || got.Unseen != 7 {
			t.Errorf("%+v: %+v", test.options, got)
		}
		if test.obstacles == 1 && (got.Obstacles[0].Reason != Hidden || got.Obstacles[0].UID != 42) {
			t.Errorf("%+v", got.Obstacles[0])
		}
	}
}

// TestTwoAtOnce: two reclaims of the same address do each other no harm.
func TestTwoAtOnce(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	culprit := start(t, obeys, file, orphan)
	file.Close()
	failures := make(chan error)
	for range 2 {
		go func() {
			result, err := Run(t.Context(), []netaddr.Address{at}, Options{Term: bound})
			if err == nil && len(result.Obstacles) > 0 {
				err = fmt.Errorf("left %+v", result)
			}
			failures <- err
		}()
	}
	if err := errors.Join(<-failures, <-failures); err != nil || culprit.lives(t) {
		t.Errorf("%v, and the orphan lives: %t", err, culprit.lives(t))
	}
}

// TestNoTime: what could not be looked at in time is an error, and nothing is ended.
func TestNoTime(t *testing.T) {
	file, at := listening(t, "tcp4", "127.0.0.1:0")
	culprit := start(t, obeys, file, orphan)
	file.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, []netaddr.Address{at}, Options{}); !errors.Is(err, context.Canceled) || !culprit.lives(t) {
		t.Errorf("%v, and the orphan lives: %t", err, culprit.lives(t))
	}
}

// TestTellUnseen: whom root could not look into may be in the way as well as those whom it names.
func TestTellUnseen(t *testing.T) {
	t.Parallel()
	var said strings.Builder
	teller := Teller{By: holders.Asker{Program: "gateway"}, Err: &said}
	foreign := Obstacle{Holder: holders.Holder{Role: api.RoleForeign}, Reason: NeedsForce}
	teller.Result(Result{Obstacles: []Obstacle{foreign}, Unseen: 3})
	if !strings.Contains(said.String(), "3 processes could not be looked into") {
		t.Errorf("root is told\n%s", said.String())
	}
}

// TestTellNarrow: nothing is wider than the terminal.
func TestTellNarrow(t *testing.T) {
	t.Parallel()
	out, fits := fixtures.Narrow(t, 60)
	w := say.NewWriter(out)
	h := holders.Holder{
		Process: proctree.Process{PID: 77}, Role: api.RoleForeign, Command: "node " + strings.Repeat("--option=value ", 9), Why: "it is no OpenClaw gateway",
		Addresses: []netaddr.Address{netaddr.MustParse("127.0.0.1:18789")},
	}
	teller := Teller{By: holders.Asker{Program: "gateway"}, Out: w, Err: w, DryRun: true}
	teller.Event(Event{Kind: Ending, Holder: h})
	teller.DryRun = false
	teller.Event(Event{Kind: Ending, Holder: h})
	teller.Result(Result{Obstacles: []Obstacle{{Holder: h, Reason: NeedsForce}}, Unseen: 3})
	fits("could not be looked into")
}
