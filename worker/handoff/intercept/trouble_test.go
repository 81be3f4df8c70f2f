package intercept_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/intercept"
	"openclaw-gateway/worker/handoff/shim"
)

func init() {
	for name, do := range map[string]func(port uint16){
		"crowd": crowd, "storm": storm, "park": park, "listen": listenAndWait, "bind and wait": bindAndWait,
		"nested": nested, "liar": liar, "stuck": stuck, "undumpable": undumpable, "ring": ring, "clashing": clashing, "all stuck": allStuck, "stuck watch": watchedStuck,
	} {
		ofPort(name, do)
	}
}

// ofPort adds a program that gets a port.
func ofPort(name string, do func(port uint16)) {
	programs[name] = func(arguments []string) int {
		port, err := strconv.ParseUint(arguments[0], 10, 16)
		if err != nil {
			return 2
		}
		time.AfterFunc(time.Minute, func() { panic("it takes more than a minute") })
		do(uint16(port))
		return 0
	}
}

func port(held sockets.Held) string { return strconv.Itoa(int(held.Address.Port())) }

func rest() { _, _ = os.Stdin.Read(make([]byte, 1)); select {} }

// crowd binds from many threads at once, and counts what comes of it.
func crowd(port uint16) {
	const many = 300
	var group, ready sync.WaitGroup
	var ours atomic.Int64
	ready.Add(many)
	for range many {
		group.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			fd := tcp4(reusePort)
			ready.Done()
			ready.Wait()
			if err := unix.Bind(fd, v4("127.0.0.1", port)); err != nil {
				fmt.Println(err)
			} else if listening(fd) {
				ours.Add(1)
			}
		})
	}
	group.Wait()
	fmt.Println(ours.Load())
}

// TestCrowd: many threads bind at once, and each gets the socket.
func TestCrowd(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	if got := start(t, held, "crowd", port(held[0])).output(); got != "300\n" {
		t.Errorf("of 300 threads: %q", got)
	}
}

// storm binds while signals come all the time, the handlers of which let calls be started again (SA_RESTART), as Go's do.
func storm(port uint16) {
	runtime.LockOSThread()
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, unix.SIGUSR1)
	thread, binds := unix.Gettid(), make(chan struct{})
	go func() {
		for range binds {
			for range 10 {
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGUSR1)
				runtime.Gosched()
			}
		}
	}()
	ours := 0
	for range 50 {
		fd := tcp4()
		binds <- struct{}{}
		if err := unix.Bind(fd, v4("127.0.0.1", port)); err != nil {
			fmt.Println(err)
		} else if listening(fd) {
			ours++
		}
		_ = unix.Close(fd)
	}
	fmt.Println(ours)
}

// TestStorm: a call that a signal interrupts comes again, and is answered as if nothing had been.
func TestStorm(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	if got := start(t, held, "storm", port(held[0])).output(); got != "50\n" {
		t.Errorf("of 50 binds: %q", got)
	}
}

// park binds, and says with what.
func park(port uint16) {
	for range 2 {
		fd := tcp4()
		fmt.Println(named(unix.Bind(fd, v4("127.0.0.1", port))), listening(fd))
	}
}

// unserved starts a program whose calls nobody answers, and returns on what the kernel tells of them.
func unserved(t *testing.T, held []sockets.Held, name string) (*worker, *os.File) {
	t.Helper()
	calls := make(chan *os.File, 1)
	w := startWith(t, held, func(f *handoff.Filter) { f.Installed = func(listener *os.File, _ bool) { calls <- listener } }, name, port(held[0]))
	w.executed()
	listener := <-calls
	t.Cleanup(func() { _ = listener.Close() })
	// Until it has called.
	raw, err := listener.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	var pollErr error
	err = raw.Read(func(fd uintptr) bool {
		polled := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		_, pollErr = unix.Poll(polled, 0)
		return polled[0].Revents&unix.POLLIN != 0
	})
	if err := errors.Join(err, pollErr); err != nil {
		t.Fatal(err)
	}
	return w, listener
}

// TestLauncherHasGone: a bind that waits ends when nobody is left to answer, and no later one waits.
func TestLauncherHasGone(t *testing.T) {
	t.Parallel()
	w, listener := unserved(t, sockets.Hold(t, "127.0.0.1"), "park")
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.output(); got != "ENOSYS false\nENOSYS false\n" {
		t.Errorf("it got %q", got)
	}
	w.ends(0)
}

// TestKilledWhileItWaits: who is killed in a bind is gone, and the answer is nobody's.
func TestKilledWhileItWaits(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w, listener := unserved(t, held, "park")
	served := make(chan error, 1)
	if err := w.process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.ends(-1)
	go func() { served <- serve(t, held, listener) }()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Error("it is waited for who has gone")
	}
	if got := start(t, held, "park", port(held[0])).output(); got != "<nil> true\nEADDRINUSE false\n" {
		t.Errorf("the next one got %q", got)
	}
}

// serve answers by an interceptor of its own.
func serve(t *testing.T, held []sockets.Held, listener *os.File) error {
	i, err := intercept.New(intercept.Options{
		Sockets: []intercept.Socket{{File: held[0].File}}, Members: func() []int { return nil },
		Tell: func(told intercept.Told) { t.Logf("%+v", told) },
	})
	if err != nil {
		return err
	}
	return i.Serve(listener)
}

func listenAndWait(port uint16) {
	fd := tcp4()
	if err := errors.Join(unix.Bind(fd, v4("127.0.0.1", port)), unix.Listen(fd, 3)); err != nil {
		fmt.Println(err)
	}
	rest()
}

func bindAndWait(port uint16) {
	fd := tcp4()
	if err := unix.Bind(fd, v4("127.0.0.1", port)); err != nil {
		fmt.Println(err)
	}
	rest()
}

// TestAdopted: who listens is heard of, and who keeps what he has bound; with the whole queue.
func TestAdopted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"listen", "bind and wait"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := sockets.Hold(t, "127.0.0.1")
			w := start(t, held, name, port(held[0]))
			w.reported(handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true})
			if _, backlog := sockets.Queue(t, held[0].File); backlog != 4096 {
				t.Errorf("the queue has place for %d", backlog)
			}
		})
	}
}

func init() {
	// Has a child bind its socket, as authbind does, and listens.
	ofPort("bind by a child", func(port uint16) {
		fd := tcp4()
		child := program("bind as 3", strconv.Itoa(int(port)))
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
		output, err := child.Output()
		fmt.Printf("%s %v", output, err)
		runtime.KeepAlive(child)
	})
	ofPort("bind as 3", func(port uint16) { fmt.Print(named(unix.Bind(3, v4("127.0.0.1", port)))) })
}

// TestBoundForAnother: who binds a socket that another process has, and listens on, is refused, and it is said why.
func TestBoundForAnother(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "bind by a child", port(held[0]))
	if got := w.output(); got != "EADDRINUSE <nil>" {
		t.Errorf("it got %q", got)
	}
	report, err := w.handoff.Reports().Next()
	want := fmt.Sprintf("binds a socket that process %d has made, ", w.process.Pid)
	if err != nil || report.Event != handoff.Unseen || !strings.Contains(report.Detail, want) {
		t.Errorf("reported %+v, %v; want %q", report, err, want)
	}
}

// clashing wants many addresses that overlap the held one, and then that.
func clashing(port uint16) {
	for i := range 100 {
		if err := unix.Bind(tcp4(), v4(fmt.Sprintf("127.0.0.%d", i+1), port)); !errors.Is(err, unix.EADDRINUSE) {
			fmt.Println(err)
		}
	}
	fd := tcp4()
	fmt.Println(unix.Bind(fd, v4("0.0.0.0", port)), unix.Listen(fd, 1))
	rest()
}

// TestClashing: what a program wants besides is told until it is too much, and that it listens always.
func TestClashing(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "0.0.0.0")
	w := start(t, held, "clashing", port(held[0]))
	w.executed()
	for i := range 16 {
		address := netaddr.MustParse(fmt.Sprintf("127.0.0.%d:%s", i+1, port(held[0])))
		w.reported(handoff.Report{Event: handoff.Failed, Address: address, Code: "EADDRINUSE"})
	}
	w.reported(handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true})
}

// TestMended: a socket that a worker has shut down listens again with the next one.
func TestMended(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	raw, err := held[0].File.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var shut error
	if err := errors.Join(raw.Control(func(fd uintptr) { shut = unix.Shutdown(int(fd), unix.SHUT_RDWR) }), shut); err != nil {
		t.Fatal(err)
	}
	w := start(t, held, "listen", port(held[0]))
	w.reported(handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true})
	sockets.Dial(t, held[0].Address)
}

// nested wants a filter of its own, as a container engine below a worker does.
func nested(uint16) {
	local, remote, err := handoff.ShimControl()
	if err != nil {
		fmt.Println(err)
		return
	}
	process, err := os.StartProcess("/proc/self/exe", []string{"gateway", "shim"}, &os.ProcAttr{
		Files: []*os.File{nil, nil, os.Stderr, remote}, Env: []string{shim.Variable + "=3"},
	})
	if err := errors.Join(err, remote.Close()); err != nil {
		fmt.Println(err)
		return
	}
	installed := func(*os.File, bool) { fmt.Println("installed") }
	command := shim.Command{Path: "/bin/true", Argv: []string{"true"}}
	fmt.Println(handoff.Send(local, command, handoff.Order{Filter: &handoff.Filter{Privileges: true, Installed: installed}}))
	state, err := process.Wait()
	fmt.Println(state, err)
}

// TestNested: below another one there is no second filter of the kind, and it is said why.
func TestNested(t *testing.T) {
	t.Parallel()
	got := start(t, sockets.Hold(t, "127.0.0.1"), "nested", "1").output()
	want := "the sockets cannot be handed over by intercept: another supervisor watches this process's system calls (seccomp listener): use listen-fds or preload\nexit status 126 <nil>\n"
	if got != want {
		t.Errorf("it got %q, want %q", got, want)
	}
}

// TestBesides: a worker that may do without starts without.
func TestBesides(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	// A process under a filter is the launcher, so that it cannot have another one for its worker.
	if got := start(t, held, "nested besides", port(held[0])).output(); got != "another supervisor watches\nEADDRINUSE\n<nil>\n" {
		t.Errorf("it got %q", got)
	}
}

func init() {
	programs["nested besides"] = func(arguments []string) int {
		local, remote, err := handoff.ShimControl()
		if err != nil {
			return 2
		}
		process, err := os.StartProcess("/proc/self/exe", []string{"gateway", "shim"}, &os.ProcAttr{
			Files: []*os.File{nil, os.Stdout, os.Stderr, remote}, Env: []string{shim.Variable + "=3"},
		})
		if err := errors.Join(err, remote.Close()); err != nil {
			return 2
		}
		filter := &handoff.Filter{Besides: true, Refused: func(err error, _ bool) {
			if strings.Contains(err.Error(), "another supervisor watches") {
				fmt.Println("another supervisor watches")
			}
		}}
		// 127.0.0.2 is not held, but taken.
		taken := tcp4()
		_ = errors.Join(unix.Bind(taken, v4("127.0.0.2", 0)), unix.Listen(taken, 1))
		name, _ := unix.Getsockname(taken)
		command := shim.Command{
			Path: "/proc/self/exe", Argv: []string{"bind", "127.0.0.2:" + strconv.Itoa(name.(*unix.SockaddrInet4).Port)}, Env: environment("bind"),
		}
		sent := handoff.Send(local, command, handoff.Order{Filter: filter})
		_, _ = process.Wait()
		fmt.Printf("\n%v\n", sent)
		return 0
	}
}

// liar changes the address while it is read, and what the descriptor is.
func liar(port uint16) {
	address := inet4(port)[:16]
	place := (*uint32)(unsafe.Pointer(&address[4]))
	held, other := *place, uint32(0x0200007f) // 127.0.0.2
	stop := make(chan struct{})
	var lying sync.WaitGroup
	lying.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				atomic.StoreUint32(place, other)
				atomic.StoreUint32(place, held)
			}
		}
	})
	fd, spare := tcp4(), tcp4()
	lying.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Dup3(spare, fd, unix.O_CLOEXEC)
				runtime.Gosched()
			}
		}
	})
	before := descriptors()
	came := map[string]int{}
	for range 1000 {
		_, _, errno := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&address[0])), 16)
		came[unix.ErrnoName(errno)]++
	}
	close(stop)
	lying.Wait()
	for what := range came {
		if what != "" && what != "EADDRINUSE" && what != "EINVAL" {
			fmt.Println(what)
		}
	}
	// Whatever there is in it now is its own socket, or the held one.
	fmt.Println(slices.DeleteFunc(descriptors(), func(link string) bool { return slices.Contains(before, link) }))
	name, err := unix.Getsockname(fd)
	if in, ok := name.(*unix.SockaddrInet4); !ok || in.Port != 0 && in.Port != int(port) {
		fmt.Println(name, err)
	}
}

// descriptors are what this process has that is no socket.
func descriptors() (all []string) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return []string{err.Error()}
	}
	for _, entry := range entries {
		link, _ := os.Readlink("/proc/self/fd/" + entry.Name())
		if link != "" && !strings.HasPrefix(link, "socket:") && !strings.HasPrefix(link, "/proc/") {
			all = append(all, link)
		}
	}
	return all
}

// TestLiar: what was looked at is what counts, and nothing gets to the program but the held socket.
func TestLiar(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	if got := start(t, held, "liar", port(held[0])).output(); got != "[]\n" {
		t.Errorf("it has %q", got)
	}
}

// watchedStuck binds a socket that an epoll set watches while a thread waits on that whose memory cannot be written, and then another
// process binds.
func watchedStuck(port uint16) {
	start, fault := unreadable()
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	fd := tcp4()
	// It is ready at once: there is nobody whom it is connected to.
	if err := errors.Join(err, unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLHUP})); err != nil || start == 0 {
		fmt.Println(err)
		return
	}
	go func() { _, _, _ = unix.Syscall6(unix.SYS_EPOLL_WAIT, uintptr(set), start, 1, 0, 0, 0) }()
	if _, err := unix.Read(fault, make([]byte, 32)); err != nil {
		fmt.Println("read:", err)
		return
	}
	go func() { _ = unix.Bind(fd, v4("127.0.0.1", port)) }()
	untilInBind(os.Getpid(), 1)
	fmt.Println(inAnother(port))
	rest()
}

// TestStuckWatch: an epoll set that cannot be looked into keeps nobody else waiting, neither one who binds nor the launcher.
func TestStuckWatch(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "stuck watch", port(held[0]))
	w.says(bufio.NewReader(w.stdout), "<nil>")
	done := make(chan struct{})
	go func() {
		w.handoff.Release()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Error("the launcher waits for the program")
	}
}

// stuck calls with memory that nobody can read until it has ended, and another process binds meanwhile.
func stuck(port uint16) {
	if callUnread(5) {
		fmt.Println(inAnother(port))
	}
}

// allStuck calls more often than calls are answered at the same time.
func allStuck(uint16) {
	if callUnread(40) {
		fmt.Println("stuck")
		rest()
	}
}

// unreadable is a page of memory for which whoever wants it waits, and where that is told; 0: there is none.
func unreadable() (start uintptr, fault int) {
	// A user fault descriptor, userfaultfd(2): whoever reads the page waits for it.
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		fmt.Println("userfaultfd:", errno)
		return 0, -1
	}
	size := os.Getpagesize()
	page, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		fmt.Println(err)
		return 0, -1
	}
	start = uintptr(unsafe.Pointer(&page[0]))
	api := [3]uint64{0xaa}                                                                                      // struct uffdio_api
	register := [4]uint64{uint64(start), uint64(size), 1}                                                       // struct uffdio_register, of missing pages
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, 0xc018aa3f, uintptr(unsafe.Pointer(&api))); errno != 0 { // UFFDIO_API
		fmt.Println("api:", errno)
		return 0, -1
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, 0xc020aa00, uintptr(unsafe.Pointer(&register))); errno != 0 { // UFFDIO_REGISTER
		fmt.Println("register:", errno)
		return 0, -1
	}
	return start, int(fd)
}

// callUnread binds so many times with memory that cannot be read, and returns when the launcher has begun to.
func callUnread(many int) bool {
	start, fault := unreadable()
	if start == 0 {
		return false
	}
	for range many {
		go func() {
			fd := tcp4()
			_, _, _ = unix.Syscall(unix.SYS_BIND, uintptr(fd), start, 16)
		}()
	}
	// Whoever reads is told to the owner of the descriptor.
	for range min(many, 32) {
		if _, err := unix.Read(fault, make([]byte, 32)); err != nil {
			fmt.Println("read:", err)
			return false
		}
	}
	return true
}

// TestStuckAll: who has the launcher wait wherever it can wait for a program, has it wait for that one alone.
func TestStuckAll(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "all stuck", port(held[0]))
	w.executed()
	line := make([]byte, 100)
	if n, err := w.stdout.Read(line); err != nil || string(line[:n]) != "stuck\n" {
		t.Fatalf("it says %q, %v", line[:n], err)
	}
	closed := make(chan error, 1)
	go func() { closed <- w.handoff.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Error("the end waits for the program")
	}
	if got := start(t, held, "park", port(held[0])).output(); got != "<nil> true\nEADDRINUSE false\n" {
		t.Errorf("the next generation got %q", got)
	}
}

// TestStuck: memory that cannot be read keeps nobody else waiting.
func TestStuck(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "stuck", port(held[0]))
	if got := w.output(); got != "<nil>\n" {
		t.Errorf("meanwhile: %q", got)
	}
	w.ends(0)
	if err := w.handoff.Close(); err != nil {
		t.Error(err)
	}
}

// ring binds by io_uring(7), IORING_OP_BIND of Linux 6.11.
func ring(port uint16) {
	parameters := make([]uint32, 30) // struct io_uring_params
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 2, uintptr(unsafe.Pointer(&parameters[0])), 0)
	if errno != 0 {
		fmt.Println("io_uring_setup:", errno)
		return
	}
	// The queues: offsets behind the first ten words, of the submissions ten, then of the completions.
	submissions, completions := parameters[10:], parameters[20:]
	rings, err := unix.Mmap(int(fd), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	entries, entriesErr := unix.Mmap(int(fd), 0x10000000, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err := errors.Join(err, entriesErr); err != nil {
		fmt.Println(err)
		return
	}
	address := inet4(port)
	socket := tcp4()
	entries[0] = 56 // IORING_OP_BIND
	binary.NativeEndian.PutUint32(entries[4:], uint32(socket))
	binary.NativeEndian.PutUint64(entries[8:], 16) // the length, in addr2
	binary.NativeEndian.PutUint64(entries[16:], uint64(uintptr(unsafe.Pointer(&address[0]))))
	binary.NativeEndian.PutUint32(rings[submissions[6]:], 0) // the first entry is the next one
	binary.NativeEndian.PutUint32(rings[submissions[1]:], 1) // up to there
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, fd, 1, 1, 1, 0, 0); errno != 0 {
		fmt.Println("io_uring_enter:", errno)
		return
	}
	result := int32(binary.NativeEndian.Uint32(rings[completions[5]+8:]))
	runtime.KeepAlive(address)
	fmt.Println(unix.ErrnoName(unix.Errno(-result)), listening(socket))
}

// TestRing: a bind that seccomp(2) does not see gets nothing, and the kernel's own error.
func TestRing(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	// EADDRINUSE; EINVAL before Linux 6.11; EPERM where there is to be no io_uring.
	if got := start(t, held, "ring", port(held[0])).output(); got == "" || strings.Contains(got, "true") {
		t.Errorf("it got %q", got)
	}
}

// undumpable cannot be looked into, unless by who may trace everybody.
func undumpable(port uint16) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		fmt.Println(err)
	}
	fd := tcp4()
	fmt.Println(named(unix.Bind(fd, v4("127.0.0.1", port))))
}

func init() {
	ofPort("obstacles", func(port uint16) {
		for _, name := range []string{"undumpable", "undumpable", "bind by a child", "undumpable", "bind by a child"} {
			if err := program(name, strconv.Itoa(int(port))).Run(); err != nil {
				fmt.Println(name, err)
			}
		}
	})
}

// unprivileged is what a launcher without privileges says of a worker.
func unprivileged(t *testing.T, name string) string {
	t.Helper()
	launcher := program("launch", name)
	launcher.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	output, err := launcher.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}

// TestObstacles: who may want a held socket hides nobody who certainly does, and each is told once.
func TestObstacles(t *testing.T) {
	t.Parallel()
	output := unprivileged(t, "obstacles")
	_, perhaps, _ := strings.Cut(output, "unseen: cannot look into process ")
	_, certain, found := strings.Cut(perhaps, "unseen: process ")
	if !found || !strings.Contains(certain, " binds a socket that process ") || strings.Count(output, "unseen: ") != 2 {
		t.Errorf("it says %q, want who cannot be looked into, then who binds another's socket", output)
	}
}

// TestUnseen: a launcher without privileges says who cannot be looked into, and which privileges the worker has lost.
func TestUnseen(t *testing.T) {
	t.Parallel()
	output := unprivileged(t, "undumpable")
	for _, want := range []string{
		"noprivileges: \n",
		"unseen: cannot look into process ", "), which may want to bind what is held: its program may be executed",
		": its program may be executed and not read, or it forbids it (PR_SET_DUMPABLE), or it is another user's: let the launcher's user read the program, or take another worker.handoff\n",
		"the worker: EADDRINUSE\n",
	} {
		if !strings.Contains(output, want) {
			t.Errorf("it says %q, without %q", output, want)
		}
	}
}

// ofItsOwn is a handoff of a socket that this process listens on itself.
func ofItsOwn(kind handoff.Kind, besides handoff.Besides) (held sockets.Held, given handoff.Handoff, err error) {
	held, err = sockets.Listen(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		return held, nil, err
	}
	given, err = handoff.New(kind, besides, handoff.NoGate, []handoff.Socket{{File: held.File, Address: held.Address}}, nil, "/", func() []int { return nil })
	return held, given, err
}

// startShim starts the shim as a launcher does, as another user where one is given.
func startShim(output *os.File, credential *syscall.Credential) (control *net.UnixConn, process *os.Process, err error) {
	control, remote, err := handoff.ShimControl()
	if err != nil {
		return nil, nil, err
	}
	process, err = os.StartProcess("/proc/self/exe", []string{"gateway", "shim"}, &os.ProcAttr{
		Files: []*os.File{nil, output, os.Stderr, remote}, Env: []string{shim.Variable + "=3"},
		Sys: &syscall.SysProcAttr{Credential: credential},
	})
	return control, process, errors.Join(err, remote.Close())
}

// launch is a launcher of a worker, some calls of which are forbidden, as are the worker's.
func launch(arguments []string) int {
	program, forbidden := arguments[0], arguments[1:]
	if len(forbidden) > 0 {
		if err := forbid(forbidden); err != nil {
			fmt.Println("forbid:", err)
			return 2
		}
	}
	held, given, err := ofItsOwn(handoff.Intercept, handoff.Nothing)
	if err != nil {
		fmt.Println(err)
		return 0
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		fmt.Println(err)
		return 2
	}
	control, process, err := startShim(writer, nil)
	if err := errors.Join(err, writer.Close()); err != nil {
		fmt.Println(err)
		return 2
	}
	command := shim.Command{Path: "/proc/self/exe", Argv: []string{program, port(held)}, Env: environment(program)}
	if err := handoff.Send(control, command, *given.Shim()); err != nil {
		fmt.Println(err)
		_, _ = process.Wait()
		return 0
	}
	text, _ := io.ReadAll(reader)
	_, _ = process.Wait()
	for {
		report, err := given.Reports().Next()
		if err != nil {
			break
		}
		fmt.Printf("%s: %s\n", report.Event, report.Detail)
	}
	fmt.Printf("the worker: %s", text)
	return 0
}

func init() { programs["launch"] = launch }

// forbid has some system calls of this process fail from now on, as a unit or a container engine does.
func forbid(numbers []string) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}}
	for _, text := range numbers {
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return err
		}
		errno := unix.EPERM
		if number == unix.SYS_CLONE3 {
			errno = unix.ENOSYS // or nobody would take clone(2) instead
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(number), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(errno)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&program)))
	if errno != 0 {
		return errno
	}
	return nil
}

// TestForbidden: what a unit or a container engine forbids is not needed, or it is said what to add.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call int
		want string
	}{
		"nothing":           {unix.SYS_REBOOT, "the worker: <nil> true\nEADDRINUSE false\n"},
		"process_vm_readv":  {unix.SYS_PROCESS_VM_READV, "the worker: <nil> true\nEADDRINUSE false\n"}, // the memory is a file, too
		"pidfd_getfd":       {unix.SYS_PIDFD_GETFD, "the sockets cannot be handed over by intercept: " + intercept.ErrFiltered.Error() + ": pidfd_getfd: operation not permitted\n"},
		"seccomp, of EPERM": {unix.SYS_SECCOMP, "the sockets cannot be handed over by intercept: a filter of the unit's or the container's forbids seccomp(2): let SystemCallFilter= have \"seccomp pidfd_getfd\" besides: operation not permitted\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, err := program("launch", "park", strconv.Itoa(test.call)).Output()
			if err != nil {
				t.Fatalf("%v: %q", err, output)
			}
			if string(output) != test.want {
				t.Errorf("it says %q, want %q", output, test.want)
			}
		})
	}
}
