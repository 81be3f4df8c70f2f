package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/ends"
	"openclaw-gateway/worker/generation"
	"openclaw-gateway/worker/handoff"
)

// programArgument makes the test binary one of the programs below; the name of
// the program follows, then options as key=value.
const programArgument = "be"

// command is the command line of a program.
func command(t *testing.T, name string, options ...string) []string {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append([]string{executable, programArgument, name}, options...)
}

type options map[string]string

func (o options) number(key string) int {
	number, err := strconv.Atoi(o[key])
	if err != nil && o[key] != "" {
		panic(err)
	}
	return number
}

func runProgram(name string, arguments []string) int {
	o := options{}
	for _, argument := range arguments {
		key, value, _ := strings.Cut(argument, "=")
		o[key] = value
	}
	var err error
	switch name {
	case "serve": // HTTP on the passed sockets
		err = serve(o)
	case "accept": // accepts on the passed sockets and does what is asked with the connections
		err = acceptOnly(o)
	case "preload": // tells what a Node.js program with the preloaded script would
		err = actPreloaded(o)
	case "bind": // listens itself, as any server does
		err = bind(o)
	case "deaf": // runs, and that is all
		if err = prepare(o); err == nil {
			rest()
		}
	case "exit": // exits with the code
	case "notify": // says READY=1 to the notify socket, and ends when that is taken
		err = say("READY=1")
		if err == nil {
			err = barrier()
		}
	case "successor": // serves on the descriptors from 3 on, whoever it is
		var files []*os.File
		for fd := range o.number("sockets") {
			files = append(files, os.NewFile(uintptr(3+fd), "inherited socket"))
		}
		err = serveFiles(files, o)
	case "hold": // takes so many MiB of memory, says so, and stays: its end takes a while
		var memory []byte
		if err = prepare(o); err != nil {
			break
		}
		memory, err = unix.Mmap(-1, 0, o.number("mib")<<20, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
		if err == nil {
			fmt.Println(len(memory))
			rest()
		}
	case "detach": // starts a program that nothing shows to be of this worker but its cgroup, says its pid, and ends
		child := exec.Command("/proc/self/exe", programArgument, o["program"], "beat="+o["beat"])
		child.Env = []string{}
		if o["beat"] != "" {
			child.Env = []string{"NOTIFY_SOCKET=" + os.Getenv("NOTIFY_SOCKET"), "WATCHDOG_USEC=" + os.Getenv("WATCHDOG_USEC")}
		}
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err = child.Start(); err == nil {
			fmt.Print(child.Process.Pid)
		}
	case "launch": // a launcher
		err = launch()
	default:
		err = fmt.Errorf("no program %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, name, err)
		return 99
	}
	return o.number("code")
}

// rest does not return. A signal that prepare's trap takes ends pause(2), too, and
// it is the trap that says with which code to exit.
func rest() {
	for {
		_ = unix.Pause()
	}
}

// leave starts a process that stays, and tells its pid where somebody is to be told.
func leave(path string, o options) error {
	if path == "" {
		return nil
	}
	child := exec.Command("/proc/self/exe", programArgument, "hold", "mib="+o["mib"], "trap="+o["left"])
	output, err := child.StdoutPipe()
	if err != nil {
		return err
	}
	if err := child.Start(); err != nil {
		return err
	}
	if _, err := output.Read(make([]byte, 1)); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(strconv.Itoa(child.Process.Pid)), 0)
}

// prepare does what every program can be asked to do before anything else.
func prepare(o options) error {
	// trap=SIGNAL:CODE exits with the code on the signal; code -1 does nothing. With notify=… it says so before.
	if name, code, ok := strings.Cut(o["trap"], ":"); ok {
		status, err := strconv.Atoi(code)
		if err != nil {
			return err
		}
		received := make(chan os.Signal, 1)
		signal.Notify(received, unix.SignalNum(name))
		go func() {
			for range received {
				if status >= 0 {
					if o["notify"] != "" {
						if err := say("STOPPING=1"); err != nil {
							fmt.Fprintln(os.Stderr, err)
							os.Exit(98)
						}
					}
					os.Exit(status)
				}
			}
		}()
	}
	// say=TEXT says it by sd_notify(3).
	if text := o["say"]; text != "" {
		if err := say(text); err != nil {
			return err
		}
	}
	// leave=FIFO starts a process that stays, and tells its pid; left=SIGNAL:CODE is its trap.
	if err := leave(o["leave"], o); err != nil {
		return err
	}
	// gate=FIFO waits until somebody opens it for writing.
	if path := o["gate"]; path != "" {
		if _, err := os.ReadFile(path); err != nil {
			return err
		}
	}
	// beat=yes says WATCHDOG=1 as often as sd_watchdog_enabled(3) asks for it.
	if o["beat"] != "" {
		every, err := daemon.SdWatchdogEnabled(false)
		if err != nil || every == 0 {
			return fmt.Errorf("no watchdog was promised: %w", err)
		}
		go func() {
			for range time.Tick(every / 2) {
				_ = say("WATCHDOG=" + o["beat"])
			}
		}()
	}
	switch o["notify"] {
	case "":
	case "self":
		return say("READY=1")
	case "child":
		child := exec.Command("/proc/self/exe", programArgument, "notify")
		child.Stderr = os.Stderr
		return child.Run()
	case "flood":
		if err := say("STATUS=here it comes\nREADY=1"); err != nil {
			return err
		}
		for i := range 100 {
			if err := say(fmt.Sprintf("STATUS=%d", i)); err != nil {
				return err
			}
		}
	case "tool":
		tool := exec.Command("systemd-notify", "--ready", "--status=at your service")
		tool.Stderr = os.Stderr
		return tool.Run()
	}
	return nil
}

func say(text string) error {
	conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(text))
	return err
}

// barrier is sd_notify_barrier(3): it sends a descriptor and waits until the
// receiver has closed it.
func barrier() error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	launcher := &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	if err := unix.Sendmsg(socket, []byte("BARRIER=1"), unix.UnixRights(pipe[1]), launcher, 0); err != nil {
		return err
	}
	if err := errors.Join(unix.Close(socket), unix.Close(pipe[1])); err != nil {
		return err
	}
	_, err = io.ReadAll(os.NewFile(uintptr(pipe[0]), "barrier"))
	return err
}

// passed returns the sockets as sd_listen_fds(3) would.
func wasPassed() (files []*os.File, err error) {
	if pid := os.Getenv("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
		return nil, fmt.Errorf("LISTEN_PID is %q and this is process %d", pid, os.Getpid())
	}
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil {
		return nil, err
	}
	for fd := 3; fd < 3+count; fd++ {
		files = append(files, os.NewFile(uintptr(fd), "passed socket"))
	}
	return files, nil
}

func serve(o options) error {
	files, err := wasPassed()
	if err != nil {
		return err
	}
	if err := prepare(o); err != nil {
		return err
	}
	if address := o["elsewhere"]; address != "" {
		other, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		defer func() { runtime.KeepAlive(other) }() // the garbage collector would close it
	}
	return serveFiles(files, o)
}

// draining is what a program does at SIGTERM when it has closed its listeners, which it waits for only if this is not nil.
var (
	draining func()
	toDrain  = make(chan os.Signal, 1)
)

func serveFiles(files []*os.File, o options) error {
	failed := make(chan error)
	server := http.Server{Handler: handler(o.number("unready"), files)}
	if draining != nil {
		go func() {
			<-toDrain
			go func() { _ = server.Shutdown(context.Background()) }()
			for range files {
				<-failed
			}
			draining()
		}()
		for _, file := range files {
			listener, err := net.FileListener(file)
			if err != nil {
				return err
			}
			go func() { failed <- server.Serve(listener) }()
		}
		select {}
	}
	for _, file := range files {
		listener, err := net.FileListener(file)
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(listener) }()
	}
	return <-failed
}

// handler answers the first so many requests for /ready with 503.
func handler(unready int, files []*os.File) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "generation %s, pid %d", os.Getenv("GATEWAY_GENERATION"), os.Getpid())
	})
	mux.HandleFunc("/bind/{address}", func(w http.ResponseWriter, r *http.Request) {
		listener, err := net.Listen("tcp", r.PathValue("address"))
		if err == nil {
			err = listener.Close()
		}
		fmt.Fprint(w, errors.Is(err, unix.EADDRINUSE))
	})
	mux.HandleFunc("/environment", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(os.Environ())
	})
	mux.HandleFunc("/exit/{code}", func(_ http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.PathValue("code"))
		if err != nil {
			panic(err)
		}
		os.Exit(code)
	})
	mux.HandleFunc("/say/{text}", func(_ http.ResponseWriter, r *http.Request) {
		if err := say(r.PathValue("text")); err != nil {
			panic(err)
		}
	})
	// starts a process that serves on the same sockets; and then? nothing, reap: waits for it, leave: names it and ends
	mux.HandleFunc("/successor/{then}", func(w http.ResponseWriter, r *http.Request) {
		child := exec.Command("/proc/self/exe", programArgument, "successor", fmt.Sprintf("sockets=%d", len(files)))
		child.ExtraFiles, child.Stderr = files, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		switch r.PathValue("then") {
		case "reap":
			go func() { _ = child.Wait() }()
		case "leave":
			if err := say(fmt.Sprintf("MAINPID=%d", child.Process.Pid)); err != nil {
				panic(err)
			}
			os.Exit(0)
		}
		fmt.Fprint(w, child.Process.Pid)
	})
	mux.HandleFunc("/detach/{program}", func(w http.ResponseWriter, r *http.Request) {
		pid, err := exec.Command("/proc/self/exe", programArgument, "detach", "program="+r.PathValue("program"), "beat="+r.URL.Query().Get("beat")).Output()
		if err != nil {
			panic(err)
		}
		_, _ = w.Write(pid)
	})
	var asked atomic.Int64
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= int64(unready) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	return mux
}

func acceptOnly(o options) error {
	files, err := wasPassed()
	if err != nil {
		return err
	}
	if err := prepare(o); err != nil {
		return err
	}
	listener, err := net.FileListener(files[0])
	if err != nil {
		return err
	}
	kept := map[net.Conn]bool{} // the garbage collector would close them
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		switch o["then"] {
		case "greet":
			fmt.Fprint(conn, "220 not.http ESMTP\r\n")
		case "close":
			conn.Close()
		case "silence":
		default:
			return errors.New("and then?")
		}
		kept[conn] = true
	}
}

// actPreloaded speaks to the launcher as worker/handoff/preload.cjs does.
func actPreloaded(o options) error {
	var order struct {
		Report  int `json:"report"`
		Gate    int `json:"gate"`
		Sockets []struct {
			Host string `json:"host"`
			Port uint16 `json:"port"`
			FDs  []int  `json:"fds"`
		} `json:"sockets"`
	}
	if err := json.Unmarshal([]byte(os.Getenv("GATEWAY_PRELOAD")), &order); err != nil {
		return err
	}
	pipe := json.NewEncoder(os.NewFile(uintptr(order.Report), "reports"))
	tell := func(event handoff.Event, address string, held bool, code string) error {
		return pipe.Encode(map[string]any{"event": event, "address": address, "held": held, "code": code})
	}
	var err error
	// At a gate it waits as the script does: for a byte, or for the end.
	gate := os.NewFile(uintptr(order.Gate), "gate")
	wait := func(address string, held bool) {
		if order.Gate == 0 {
			return
		}
		err = errors.Join(err, tell(handoff.Arrived, address, held, ""))
		if n, _ := gate.Read(make([]byte, 1)); n == 0 {
			order.Gate = 0
		}
	}
	// boot=FIFO waits there before anything else, and beside=CODE ends with the code, in a generation that starts beside another one.
	if order.Gate != 0 && o["boot"] != "" {
		if _, err := os.ReadFile(o["boot"]); err != nil {
			return err
		}
	}
	if order.Gate != 0 && o["beside"] != "" {
		os.Exit(o.number("beside"))
	}
	if order.Gate != 0 { // child=FIFO is as leave, of such a one, before it stands at its gate
		err = leave(o["child"], o)
	}
	elsewhere := func() {
		if address := o["elsewhere"]; address != "" {
			wait(address, false)
			err = errors.Join(err, tell(handoff.Listening, address, false, ""))
		}
	}
	if o["late"] == "" { // late=1 listens there when it does so on the sockets
		elsewhere()
	}
	if address := o["clash"]; address != "" {
		err = errors.Join(err, tell(handoff.Failed, address, false, "EADDRINUSE"))
	}
	if needs := o["needs"]; needs != "" {
		err = errors.Join(err, pipe.Encode(handoff.Report{
			Event: handoff.Runtime, Program: "/usr/bin/node", Version: "20.20.2", Needs: needs, OpenClaw: handoff.OpenClaw{Release: "2026.9.6"},
		}))
	}
	if line := o["say"]; line != "" {
		_, said := os.NewFile(uintptr(order.Report), "reports").WriteString(line + "\n")
		err = errors.Join(err, said)
	}
	// Before anybody knows that it serves. deaf=1 does not hear SIGTERM.
	if o["drain"] != "" {
		signal.Notify(toDrain, unix.SIGTERM)
	}
	if o["deaf"] != "" {
		signal.Ignore(unix.SIGTERM)
	}
	var files []*os.File
	for i, socket := range order.Sockets {
		if i < o.number("listen") {
			address := netaddr.From(netip.MustParseAddr(socket.Host), socket.Port).String()
			wait(address, true)
			err = errors.Join(err, tell(handoff.Listening, address, true, ""))
			files = append(files, os.NewFile(uintptr(socket.FDs[0]), address))
		}
	}
	if o["late"] != "" {
		elsewhere()
	}
	if err := errors.Join(err, prepare(o)); err != nil {
		return err
	}
	if path := o["close"]; path != "" {
		go func() {
			_, waited := os.ReadFile(path)
			if err := errors.Join(waited, tell(handoff.Closed, files[0].Name(), true, "")); err != nil {
				panic(err)
			}
		}()
	}
	// drain=FIFO closes its listeners at SIGTERM, and ends when somebody has opened the pipe.
	if path := o["drain"]; path != "" {
		draining = func() {
			var err error
			for _, file := range files {
				err = errors.Join(err, tell(handoff.Closed, file.Name(), true, ""))
			}
			if _, waited := os.ReadFile(path); errors.Join(err, waited) != nil {
				panic(errors.Join(err, waited))
			}
			if address := o["elsewhere"]; address != "" {
				_ = tell(handoff.Closed, address, false, "")
			}
			os.Exit(0)
		}
	}
	if address := o["exhausted"]; address != "" {
		if err := tell(handoff.Exhausted, address, true, ""); err != nil {
			return err
		}
	}
	if o["code"] != "" {
		return nil
	}
	if len(files) == 0 {
		_ = unix.Pause()
	}
	return serveFiles(files, o)
}

// bind listens on its address by itself. The options are those of actPreloaded.
func bind(o options) error {
	if os.Getenv("GATEWAY_GENERATION") != "1" {
		if path := o["boot"]; path != "" {
			if _, err := os.ReadFile(path); err != nil {
				return err
			}
		}
		if o["beside"] != "" {
			os.Exit(o.number("beside"))
		}
		if err := leave(o["child"], o); err != nil {
			return err
		}
	}
	switch {
	case o["drain"] != "":
		signal.Notify(toDrain, unix.SIGTERM)
	case o["deaf"] != "":
		signal.Ignore(unix.SIGTERM)
	}
	var other net.Listener
	defer func() { runtime.KeepAlive(other) }() // the garbage collector would close it
	elsewhere := func() (err error) {
		if address := o["elsewhere"]; address != "" {
			other, err = net.Listen("tcp", address)
		}
		return err
	}
	if o["late"] == "" {
		if err := elsewhere(); err != nil {
			return err
		}
	}
	listener, err := net.Listen(cmp.Or(o["network"], "tcp"), o["address"])
	if err != nil && o["stay"] != "" { // stay=1 does not end when it cannot
		rest()
	}
	if err == nil && o["late"] != "" {
		err = elsewhere()
	}
	if err := errors.Join(err, prepare(o)); err != nil {
		return err
	}
	if path := o["drain"]; path != "" {
		go func() {
			<-toDrain
			err := listener.Close()
			if _, waited := os.ReadFile(path); errors.Join(err, waited) != nil {
				panic(errors.Join(err, waited))
			}
			os.Exit(0)
		}()
	}
	err = http.Serve(listener, handler(o.number("unready"), nil))
	if o["drain"] != "" {
		select {} // until it has drained
	}
	return err
}

// launch is a launcher that says the pid of its worker, on a socket of its own.
func launch() error {
	held, err := sockets.Listen(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		return err
	}
	socket := handoff.Socket{File: held.File, Address: held.Address}
	directory, err := os.MkdirTemp("", "launch")
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	spec := generation.Spec{
		Sockets: []handoff.Socket{socket}, Queues: &testQueues{sockets: []handoff.Socket{socket}},
		Command: []string{executable, programArgument, "serve"}, Directory: "/", Handoff: handoff.ListenFDs, Probe: generation.ProbeAdopted,
		ReadyTimeout: bound, StopSignal: unix.SIGTERM, StopTimeout: bound, Backoff: generation.Backoff{Min: bound, Max: bound},
	}
	New(spec, Options{
		Options:   generation.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Place: func() (string, error) { return directory, nil }},
		Directory: directory, AtOnce: true, Ended: func(ends.Exit) {},
		Observe: func(status Status) {
			if status.State == Ready {
				_ = os.RemoveAll(directory)
				fmt.Println(status.PID)
			}
		},
	}).Run(context.Background(), nil)
	return nil
}

// TestLauncherKilled kills a launcher in a way that leaves it no last word.
func TestLauncherKilled(t *testing.T) {
	t.Parallel()
	line := command(t, "launch")
	launcher := exec.Command(line[0], line[1:]...)
	launcher.Env = append(os.Environ(), quietRace)
	launcher.Stderr = os.Stderr
	output, err := launcher.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := launcher.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(output, &pid); err != nil {
		t.Fatal(errors.Join(err, launcher.Process.Kill(), launcher.Wait()))
	}
	worker, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(worker)
	if err := launcher.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = launcher.Wait() // killed
	ended := []unix.PollFd{{Fd: int32(worker), Events: unix.POLLIN}}
	for {
		count, err := unix.Poll(ended, int(bound/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || count == 0 {
			t.Errorf("worker %d has not ended with its launcher: %v", pid, err)
			_ = unix.PidfdSendSignal(worker, unix.SIGKILL, nil, 0)
		}
		return
	}
}
