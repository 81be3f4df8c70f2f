package intercept_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
)

func init() {
	ofPort("standing", standing)
	ofPort("crowd at the gate", crowdAtTheGate)
	ofPort("killed one by one", killedOneByOne)
	ofPort("closing", closing)
	ofPort("bind once", func(port uint16) { fmt.Println(named(unix.Bind(tcp4(), v4("127.0.0.1", port)))) })
}

func arrived(address netaddr.Address, held bool) handoff.Report {
	return handoff.Report{Event: handoff.Arrived, Address: address, Held: held}
}

// says waits for a line of the program.
func (w *worker) says(lines *bufio.Reader, want string) {
	w.t.Helper()
	if err := w.stdout.SetReadDeadline(time.Now().Add(limit)); err != nil {
		w.t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); strings.TrimSuffix(line, "\n") != want {
		w.t.Fatalf("it says %q (%v), want %q", line, err, want)
	}
}

// standing binds another address, the held one twice, and the other one again.
func standing(port uint16) {
	other, err := strconv.ParseUint(os.Args[2], 10, 16)
	if err != nil {
		panic(err)
	}
	bind := func(host string, port uint16) {
		fd := tcp4()
		err := unix.SetNonblock(fd, true)
		err = errors.Join(err, unix.Bind(fd, v4(host, port)), unix.Listen(fd, 1))
		fmt.Println(err, listening(fd))
		_ = unix.Close(fd)
	}
	bind("127.0.0.2", uint16(other))
	bind("127.0.0.1", port)
	bind("127.0.0.1", port)
	bind("127.0.0.2", uint16(other))
	bind("127.0.0.1", port)
}

// TestGate: whoever binds waits at each address, held or not, and goes on when he is let go; when the gate has been opened nobody waits.
// Until then nothing changes on the held socket.
func TestGate(t *testing.T) {
	t.Parallel()
	held, other := sockets.Hold(t, "127.0.0.1"), sockets.Free(t)
	w := startAt(t, handoff.Shut, held, nil, "standing", port(held[0]), strconv.Itoa(int(other.Port())))
	lines := bufio.NewReader(w.stdout)
	w.reported(arrived(other, false))
	w.handoff.Pass(other)
	w.reported(handoff.Report{Event: handoff.Listening, Address: other, Bound: true})
	w.says(lines, "<nil> true")
	w.reported(arrived(held[0].Address, true))
	if nonblocking(t, held[0].File) {
		t.Error("the socket has the mode of one who waits")
	}
	w.handoff.Pass(held[0].Address)
	w.says(lines, "<nil> true")
	if !nonblocking(t, held[0].File) {
		t.Error("the socket has not the mode of who has got it")
	}
	// On a busy machine it has the socket for long enough to count as a server.
	serves := handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true}
	if again := arrived(held[0].Address, true); w.reportedOneOf(again, serves) == serves {
		w.reported(again)
	}
	w.handoff.Release()
	for range 3 {
		w.says(lines, "<nil> true")
	}
	w.ends(0)
}

func nonblocking(t *testing.T, file *os.File) bool {
	t.Helper()
	raw, err := file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags int
	var inner error
	err = raw.Control(func(fd uintptr) { flags, inner = unix.FcntlInt(fd, unix.F_GETFL, 0) })
	if err := errors.Join(err, inner); err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// crowdAtTheGate binds from many threads at once, and meanwhile with a port of the kernel's choice.
func crowdAtTheGate(port uint16) {
	const many = 300
	var group sync.WaitGroup
	var mu sync.Mutex
	got := map[string]int{}
	for range many {
		group.Go(func() {
			runtime.LockOSThread()
			fd := tcp4(reusePort)
			text := fmt.Sprint(unix.Bind(fd, v4("127.0.0.1", port)), listening(fd))
			mu.Lock()
			got[text]++
			mu.Unlock()
		})
	}
	untilInBind(os.Getpid(), many)
	fmt.Println(unix.Bind(tcp4(), v4("127.0.0.1", 0)))
	group.Wait()
	fmt.Println(got)
}

// untilInBind returns when so many threads of a process are in a bind(2) that is not answered. Nothing tells of that but a look.
func untilInBind(pid, many int) {
	folder := fmt.Sprintf("/proc/%d/task/", pid)
	for deadline := time.Now().Add(limit); ; runtime.Gosched() {
		var calls []string
		tasks, _ := os.ReadDir(folder)
		for _, task := range tasks {
			content, _ := os.ReadFile(folder + task.Name() + "/syscall")
			call, _, _ := strings.Cut(string(content), " ")
			calls = append(calls, call)
		}
		others := slices.DeleteFunc(slices.Clone(calls), func(call string) bool { return call == strconv.Itoa(unix.SYS_BIND) })
		if len(calls)-len(others) >= many {
			return
		}
		if time.Now().After(deadline) {
			panic(fmt.Sprintf("not %d threads of process %d are in bind(2): their calls are %q", many, pid, calls))
		}
	}
}

// TestGateCrowd: as many as like can wait, and keep nobody else from his answer.
func TestGateCrowd(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := startAt(t, handoff.Shut, held, nil, "crowd at the gate", port(held[0]))
	lines := bufio.NewReader(w.stdout)
	w.reported(arrived(held[0].Address, true))
	w.says(lines, "<nil>")
	w.handoff.Release()
	w.says(lines, "map[<nil> true:300]")
	w.ends(0)
}

// killedOneByOne starts a program that binds, and kills it there, again and again.
func killedOneByOne(port uint16) {
	for range 20 {
		child := program("bind once", strconv.Itoa(int(port)))
		if err := child.Start(); err != nil {
			panic(err)
		}
		untilInBind(child.Process.Pid, 1)
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	fmt.Println(named(unix.Bind(tcp4(), v4("127.0.0.1", port))))
}

// TestGateKilled: who is killed while he waits leaves nothing, and the next one gets the address.
func TestGateKilled(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := startAt(t, handoff.Shut, held, nil, "killed one by one", port(held[0]))
	lines := bufio.NewReader(w.stdout)
	w.reported(arrived(held[0].Address, true))
	untilInBind(w.process.Pid, 1) // it stands there itself
	w.handoff.Release()
	w.says(lines, "<nil>")
	w.ends(0)
}

// TestGateLauncherGone: a bind that waits ends when nobody is left to answer.
func TestGateLauncherGone(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := startAt(t, handoff.Shut, held, nil, "bind once", port(held[0]))
	w.reported(arrived(held[0].Address, true))
	if err := w.handoff.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.output(); got != "ENOSYS\n" {
		t.Errorf("it got %q", got)
	}
}

// closing listens on the held address and another one, closes what it is told to, and binds again.
func closing(port uint16) {
	other, err := strconv.ParseUint(os.Args[2], 10, 16)
	if err != nil {
		panic(err)
	}
	own, second := tcp4(), tcp4()
	err = errors.Join(unix.Bind(second, v4("127.0.0.2", uint16(other))), unix.Listen(second, 1), unix.Bind(own, v4("127.0.0.1", port)), unix.Listen(own, 1))
	child := program("wait")
	input, pipeErr := child.StdinPipe()
	child.ExtraFiles = []*os.File{os.NewFile(uintptr(own), "the socket")}
	fmt.Println(errors.Join(err, pipeErr, child.Start()))
	var what string
	underWay, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	for {
		if _, err := fmt.Fscan(os.Stdin, &what); err != nil {
			return
		}
		switch what {
		case "sent":
			if err := unix.Sendmsg(underWay[0], []byte("it"), unix.UnixRights(second), nil, 0); err != nil {
				panic(err)
			}
		case "second":
			_ = unix.Close(second)
		case "lost":
			_, _ = unix.Close(underWay[0]), unix.Close(underWay[1])
		case "own":
			_ = unix.Close(own)
		case "child":
			_ = input.Close()
			_ = child.Wait()
		case "again":
			fmt.Println(named(unix.Bind(tcp4(), v4("127.0.0.1", port))))
			continue
		}
		fmt.Println(what)
	}
}

// TestWatch: that nobody has an address any more is told when it is so, and not while a child has inherited the socket, or while it
// is no process's and listens still; and from then on nobody of the generation gets it.
func TestWatch(t *testing.T) {
	t.Parallel()
	held, other := sockets.Hold(t, "127.0.0.1"), sockets.Free(t)
	w := startAt(t, handoff.Open, held, nil, "closing", port(held[0]), strconv.Itoa(int(other.Port())))
	lines := bufio.NewReader(w.stdout)
	w.says(lines, "<nil>")
	for range 2 {
		w.reportedOneOf(
			handoff.Report{Event: handoff.Listening, Address: other, Bound: true},
			handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true})
	}
	if !w.handoff.Watch() || w.handoff.Watch() {
		t.Error("it is watched twice")
	}
	say := func(words ...string) {
		for _, word := range words {
			w.tell(word)
			w.says(lines, word)
		}
	}
	say("sent", "second", "own", "child")
	w.reported(handoff.Report{Event: handoff.Closed, Address: held[0].Address, Held: true}) // and not the other one, which is on its way
	say("lost")
	w.reported(handoff.Report{Event: handoff.Closed, Address: other})
	w.tell("again")
	w.says(lines, "EADDRINUSE")
}
