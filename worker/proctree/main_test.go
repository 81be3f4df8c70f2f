package proctree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

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
	case "huge": // with arguments and an environment of so many bytes
		size, _ := strconv.Atoi(argument(0))
		err = pretend(size)
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

// pretend has the kernel show so many bytes of this process's memory as its arguments, and as its environment.
func pretend(size int) error {
	memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	field := func(n int) uint64 { // as proc(5) counts them
		number, parsing := strconv.ParseUint(fields[n-3], 10, 64)
		err = errors.Join(err, parsing)
		return number
	}
	brk, _, _ := unix.Syscall(unix.SYS_BRK, 0, 0, 0)
	begin := uint64(uintptr(unsafe.Pointer(&memory[0])))
	end := begin + uint64(size)
	prctlMap := struct { // struct prctl_mm_map, linux/prctl.h
		startCode, endCode, startData, endData, startBrk, brk, startStack, argStart, argEnd, envStart, envEnd, auxv uint64
		auxvSize, exe                                                                                               uint32
	}{field(26), field(27), field(45), field(46), field(47), uint64(brk), field(28), begin, end, begin, end, 0, 0, ^uint32(0)}
	if err != nil {
		return err
	}
	_, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP,
		uintptr(unsafe.Pointer(&prctlMap)), unsafe.Sizeof(prctlMap), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	return nil
}
