package proctree

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// programArgument makes the test binary one of the programs below, of which each
// says its pid and ends with its standard input.
const programArgument = "be"

func init() {
	if len(os.Args) > 2 && os.Args[1] == programArgument && os.Args[2] == "headless" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != programArgument {
		os.Exit(m.Run())
	}
	argument := func(i int) string {
		if len(os.Args) > 3+i {
			return os.Args[3+i]
		}
		return ""
	}
	var err error
	switch os.Args[2] {
	case "stay": // under the given name
		if name := argument(0); name != "" {
			err = os.WriteFile("/proc/self/comm", []byte(name), 0)
		}
	case "line": // with so many descendants, one below the other
		if depth, _ := strconv.Atoi(argument(0)); depth > 0 {
			err = start("line", strconv.Itoa(depth-1)).Start()
		}
	case "neglect": // with a child that has ended, and is not reaped
		child := start("fail")
		if err = child.Start(); err == nil {
			err = unix.Waitid(unix.P_PID, child.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		}
	case "headless": // without its first thread
		go func() {
			fmt.Println(os.Getpid())
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(0)
		}()
		_, _, err = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
	case "marked": // lists the processes that are marked so, instead of its own pid
		var found []Process
		found, err = Marked(argument(0), func(value string) bool { return value == argument(1) })
		if err == nil {
			fmt.Println(found)
			return
		}
	case "kill": // kills the processes that have the pids, all at once
		var processes []Process
		for _, argument := range os.Args[3:] {
			pid, _ := strconv.Atoi(argument)
			process, found := Find(pid)
			processes, err = append(processes, process), errors.Join(err, found)
		}
		if err = errors.Join(err, Kill(processes)); err == nil {
			return
		}
	case "fail":
		os.Exit(1)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(os.Getpid())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func start(program string, arguments ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append([]string{programArgument, program}, arguments...)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}
