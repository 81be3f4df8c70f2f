package intercept_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/handoff/intercept"
	"openclaw-gateway/worker/handoff/shim"
)

func init() {
	ofPort("too high", tooHigh)
	ofPort("options", setForOne)
	ofPort("watched", func(port uint16) { fmt.Println(watched(port)) })
	programs["launch contained"] = launchContained
	programs["nested in vain"] = nestedInVain
	programs["without"] = without
}

// TestClosedWhileItLives: the end of a generation is no trouble with the kernel, also where something of it lives on.
func TestClosedWhileItLives(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "listen", port(held[0]))
	w.reported(handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true})
	if err := w.handoff.Close(); err != nil {
		t.Fatal(err)
	}
	if report, err := w.handoff.Reports().Next(); err == nil {
		t.Errorf("reported %+v", report)
	}
}

// tooHigh binds a descriptor where the kernel puts none.
func tooHigh(port uint16) {
	const high = 200
	fd := tcp4(with(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), func(fd int) error { return unix.SetNonblock(fd, true) })
	err := errors.Join(unix.Dup3(fd, high, unix.O_CLOEXEC), unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: high, Max: high}))
	fmt.Println(err, named(unix.Bind(high, v4("127.0.0.1", port))))
}

// TestUnchangedForNobody: who does not get the socket changes nothing on it, for it may be another one's.
func TestUnchangedForNobody(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	if got := start(t, held, "too high", port(held[0])).output(); got != "<nil> EADDRINUSE\n" {
		t.Fatalf("it got %q", got)
	}
	raw, err := held[0].File.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var flags, noDelay int
	var flagsErr, optionErr error
	err = raw.Control(func(fd uintptr) {
		flags, flagsErr = unix.FcntlInt(fd, unix.F_GETFL, 0)
		noDelay, optionErr = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY)
	})
	if err := errors.Join(err, flagsErr, optionErr); err != nil {
		t.Fatal(err)
	}
	if flags&unix.O_NONBLOCK != 0 || noDelay != 0 {
		t.Errorf("the held socket has the flags %#o and TCP_NODELAY %d", flags, noDelay)
	}
}

// setForOne binds two sockets, one after the other, and says whether they have SO_KEEPALIVE and TCP_NODELAY, which it has set for the first.
func setForOne(port uint16) {
	for _, options := range [][]func(int) error{{with(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)}, nil} {
		fd := tcp4(options...)
		err := unix.Bind(fd, v4("127.0.0.1", port))
		keepAlive, keepAliveErr := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		noDelay, noDelayErr := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
		fmt.Println(keepAlive, noDelay, errors.Join(err, keepAliveErr, noDelayErr, unix.Close(fd)))
	}
}

// TestUnitsOptions: what the unit has set for its sockets stays, KeepAlive= for one, and what one server has set is not the next one's.
func TestUnitsOptions(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	raw, err := held[0].File.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var setErr error
	err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) })
	if err := errors.Join(err, setErr); err != nil {
		t.Fatal(err)
	}
	if got := start(t, held, "options", port(held[0])).output(); got != "1 1 <nil>\n1 0 <nil>\n" {
		t.Errorf("it got %q", got)
	}
}

// watchedBefore binds a socket at a number under which an epoll set still has another one.
func watchedBefore(port uint16) string {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err.Error()
	}
	before, fd, another := tcp4(), tcp4(), -1
	defer func() { _, _, _, _ = unix.Close(set), unix.Close(before), unix.Close(fd), unix.Close(another) }()
	err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, before, &unix.EpollEvent{Fd: 77})
	if err == nil {
		another, err = unix.FcntlInt(uintptr(before), unix.F_DUPFD_CLOEXEC, 0) // a child's, perhaps
	}
	err = errors.Join(err, unix.Dup3(fd, before, unix.O_CLOEXEC), unix.Bind(before, v4("127.0.0.1", port)))
	if err == nil {
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, before, &unix.EpollEvent{Fd: 78})
	}
	return named(err)
}

// dockers are the calls that Docker's default profile refuses a container that has no capability besides its default ones
// (profiles/seccomp/default.json of moby/moby), as far as both processors have them; clone3 it does not have (ENOSYS).
var dockers = []int{
	unix.SYS_ACCT, unix.SYS_ADD_KEY, unix.SYS_BPF, unix.SYS_CLOCK_SETTIME, unix.SYS_CLONE3, unix.SYS_DELETE_MODULE, unix.SYS_FANOTIFY_INIT,
	unix.SYS_FINIT_MODULE, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSOPEN, unix.SYS_FSPICK, unix.SYS_GET_MEMPOLICY, unix.SYS_INIT_MODULE,
	unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER, unix.SYS_IO_URING_SETUP, unix.SYS_KCMP, unix.SYS_KEXEC_LOAD, unix.SYS_KEYCTL,
	unix.SYS_MBIND, unix.SYS_MIGRATE_PAGES, unix.SYS_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_MOVE_MOUNT, unix.SYS_MOVE_PAGES, unix.SYS_NFSSERVCTL,
	unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_OPEN_TREE, unix.SYS_PERF_EVENT_OPEN, unix.SYS_PIDFD_GETFD, unix.SYS_PIVOT_ROOT, unix.SYS_PROCESS_MADVISE,
	unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_REBOOT, unix.SYS_REQUEST_KEY, unix.SYS_SETDOMAINNAME, unix.SYS_SETHOSTNAME, unix.SYS_SETNS,
	unix.SYS_SETTIMEOFDAY, unix.SYS_SET_MEMPOLICY, unix.SYS_SWAPOFF, unix.SYS_SWAPON, unix.SYS_SYSLOG, unix.SYS_UMOUNT2, unix.SYS_UNSHARE,
	unix.SYS_USERFAULTFD, unix.SYS_VHANGUP,
}

// ptraces are those of them that the capability SYS_PTRACE gives back.
var ptraces = []int{unix.SYS_KCMP, unix.SYS_PIDFD_GETFD, unix.SYS_PROCESS_MADVISE}

// launchContained is a launcher in a container: under the container's filter, which does not set no_new_privs, and no root outside.
func launchContained(arguments []string) int {
	if err := forbid(arguments[1:]); err != nil {
		fmt.Println("forbid:", err)
		return 2
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(65534), syscall.Setuid(65534)); err != nil {
		fmt.Println(err)
		return 2
	}
	return launch(arguments[:1])
}

// TestDocker: in a container with Docker's default profile it is said what to add, and with that it works.
func TestDocker(t *testing.T) {
	t.Parallel()
	without := "the sockets cannot be handed over by intercept: " + intercept.ErrFiltered.Error() + ": pidfd_getfd: operation not permitted\n"
	price := "noprivileges: \n"
	for name, test := range map[string]struct {
		program string
		ptrace  bool
		want    string
	}{
		"as it is":               {"park", false, without},
		"with SYS_PTRACE":        {"park", true, price + "the worker: <nil> true\nEADDRINUSE false\n"},
		"with SYS_PTRACE, epoll": {"watched", true, price + "the worker: 1 <nil> {1 77 78} <nil>\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arguments := []string{test.program}
			for _, call := range dockers {
				if !test.ptrace || !slices.Contains(ptraces, call) {
					arguments = append(arguments, strconv.Itoa(call))
				}
			}
			output, err := program("launch contained", arguments...).Output()
			// That it listens may be told or not: it ends soon.
			got := strings.ReplaceAll(string(output), "listening: \n", "")
			if err != nil || got != test.want {
				t.Errorf("it says %q (%v), want %q", output, err, test.want)
			}
		})
	}
}

// without makes handoffs that intercept would be beside, where that cannot be.
func without(arguments []string) int {
	held, err := sockets.Listen(netaddr.MustParse("127.0.0.1:0"))
	if err := errors.Join(err, forbid(arguments)); err != nil {
		fmt.Println(err)
		return 2
	}
	for _, kind := range []handoff.Kind{handoff.ListenFDs, handoff.Auto} {
		for _, besides := range []handoff.Besides{handoff.Free, handoff.Anyhow} {
			h, err := handoff.New(kind, besides, handoff.NoGate, []handoff.Socket{{File: held.File, Address: held.Address}}, nil, os.TempDir(), func() []int { return nil })
			if err != nil {
				fmt.Println(err)
				return 2
			}
			report, err := h.Reports().Next()
			fmt.Println(h.Kind(), h.Shim().ListenPID, h.Shim().Filter == nil, report.Event, report.Detail, err, h.Close())
			_, err = h.Reports().Next()
			fmt.Println(err)
		}
	}
	return 0
}

// TestWithout: where a container forbids what intercept needs, the worker starts without, and it is said why: as an obstacle where nothing
// else is left to try.
func TestWithout(t *testing.T) {
	t.Parallel()
	output, err := program("without", strconv.Itoa(unix.SYS_PIDFD_GETFD)).Output()
	want := ""
	for _, kind := range []string{"listen-fds", "auto"} {
		for _, event := range []string{"unprivileged", "unfiltered"} {
			want += kind + " true true " + event + " the sockets cannot be handed over by intercept: " + intercept.ErrFiltered.Error() +
				": pidfd_getfd: operation not permitted <nil> <nil>\nEOF\n"
		}
	}
	if err != nil || string(output) != want {
		t.Errorf("it says %q (%v), want %q", output, err, want)
	}
}

// nestedInVain starts a worker as another user below a filter, which sets no_new_privs before the kernel refuses it another one.
func nestedInVain([]string) int {
	_, besides, err := ofItsOwn(handoff.ListenFDs, handoff.Anyhow)
	if err != nil {
		fmt.Println(err)
		return 2
	}
	control, process, err := startShim(os.Stdout, &syscall.Credential{Uid: 65534, Gid: 65534})
	if err != nil {
		fmt.Println(err)
		return 2
	}
	fmt.Println(handoff.Send(control, shim.Command{Path: "/bin/true", Argv: []string{"true"}}, *besides.Shim()))
	state, err := process.Wait()
	fmt.Println(state, err)
	for report, err := besides.Reports().Next(); err == nil; report, err = besides.Reports().Next() {
		fmt.Println(report.Event)
	}
	return 0
}

// TestNestedInVain: no_new_privs that has come of nothing is told as well.
func TestNestedInVain(t *testing.T) {
	t.Parallel()
	if got := start(t, sockets.Hold(t, "127.0.0.1"), "nested in vain").output(); got != "<nil>\nexit status 0 <nil>\nnoprivileges\nunfiltered\n" {
		t.Errorf("it got %q", got)
	}
}
