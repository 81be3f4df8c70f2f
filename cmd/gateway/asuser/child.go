package asuser

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// role is the first argument of a child; its uid, its gids, the primary one first, the name of the question, the time, the
// memory and the bytes to write for it follow.
const role = "as-user"

// What a child may have. Beside them root gives up on it after a while.
const (
	processorTime = 5        // seconds (RLIMIT_CPU)
	openFiles     = 16       // RLIMIT_NOFILE
	collected     = 48 << 20 // bytes, near which the garbage collector saves memory rather than time
)

// asked is the name of the question that this process is there to answer; "" in all others. limit is when root gives up.
var (
	asked string
	limit time.Duration
)

// In the initialisation of this package, that is before everything that has something to do with a user.
func init() {
	if len(os.Args) != 8 || os.Args[1] != role {
		return
	}
	uid, err := strconv.ParseUint(os.Args[2], 10, 31)
	var gids []int
	for gid := range strings.SplitSeq(os.Args[3], ",") {
		gid, wrong := strconv.ParseUint(gid, 10, 31)
		gids, err = append(gids, int(gid)), errors.Join(err, wrong)
	}
	memory, wrong := strconv.ParseUint(os.Args[6], 10, 32)
	written, wrongToo := strconv.ParseUint(os.Args[7], 10, 32)
	if err = errors.Join(err, wrong, wrongToo); err == nil {
		// From here on the user may have a hand in how long it takes. No answer minds a line break before it.
		_, err = os.Stdout.WriteString("\n")
	}
	if err == nil {
		err = become(int(uid), gids, memory, written)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "become uid %s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
	asked = os.Args[4]
	limit, _ = time.ParseDuration(os.Args[5])
}

// become turns root's process into one of a user that this user cannot trace.
func become(uid int, gids []int, memory, written uint64) error {
	data, err := mapped()
	if err != nil {
		return err
	}
	// SECBIT_NO_SETUID_FIXUP and SECBIT_KEEP_CAPS: it would keep root's capabilities (capabilities(7)).
	if bits, err := unix.PrctlRetInt(unix.PR_GET_SECUREBITS, 0, 0, 0, 0); err != nil || bits&(1<<2|1<<4) != 0 {
		return errors.Join(fmt.Errorf("capabilities would be kept: securebits are %#x", bits), err)
	}
	// From here on the kernel lets nobody but root trace it: setresuid(2) makes it undumpable (fs.suid_dumpable=0 and 2).
	gid := gids[0]
	if err := errors.Join(syscall.Setgroups(gids), syscall.Setresgid(gid, gid, gid), syscall.Setresuid(uid, uid, uid)); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("be untraceable: %w", err)
	}
	// Later than setresuid(2), which clears it.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("end with the parent: %w", err)
	}
	if err := executeNothing(); err != nil {
		return fmt.Errorf("forbid itself to execute programs: %w", err)
	}
	debug.SetMemoryLimit(collected)
	for resource, limit := range map[int]uint64{
		unix.RLIMIT_CORE: 0, unix.RLIMIT_FSIZE: written, unix.RLIMIT_CPU: processorTime, unix.RLIMIT_NOFILE: openFiles, unix.RLIMIT_DATA: data + memory,
	} {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return fmt.Errorf("set limit %d: %w", resource, err)
		}
	}
	return nil
}

// executeNothing makes execve(2) and execveat(2) fail with EPERM, in all threads. With the filter comes no_new_privs, in
// all threads too (SECCOMP_FILTER_FLAG_TSYNC, seccomp(2)); prctl(2) alone would set it in one of the several that the Go
// runtime has by now.
func executeNothing() error {
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(number uint32, skip uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: number, Jt: skip}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	program := []unix.SockFilter{
		load(0), // seccomp_data.nr
		equal(unix.SYS_EXECVE, 2),
		equal(unix.SYS_EXECVEAT, 1),
		end(unix.SECCOMP_RET_ALLOW),
		end(unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)),
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter)))
	switch {
	case errno != 0:
		return errno
	case thread != 0:
		return fmt.Errorf("thread %d has another filter", thread)
	}
	return nil
}

// mapped is how much of the memory of this process counts for RLIMIT_DATA, in bytes (proc(5), statm).
func mapped() (uint64, error) {
	content, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, resident, shared, text, library, data uint64
	if _, err := fmt.Sscan(string(content), &size, &resident, &shared, &text, &library, &data); err != nil {
		return 0, fmt.Errorf("read /proc/self/statm: %w", err)
	}
	return data * uint64(os.Getpagesize()), nil
}

// reply is what the child writes.
type reply struct {
	Error  string          `json:"error,omitempty"`
	Answer json.RawMessage `json:"answer,omitempty"`
}

// answer reads the question, answers it, and ends the process.
func answer[Q, A any](function func(context.Context, Q) (A, error)) {
	var said reply
	// Sooner than root gives up, so that what is known by then is told.
	ctx, cancel := context.WithTimeout(context.Background(), limit*3/4)
	defer cancel()
	var question Q
	err := json.NewDecoder(io.LimitReader(os.Stdin, mostBytes)).Decode(&question)
	if err == nil {
		var answer A
		if answer, err = function(ctx, question); err == nil {
			said.Answer, err = json.Marshal(answer)
		}
	}
	if err != nil {
		said.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		fmt.Fprintln(os.Stderr, err)
		syscall.Exit(1)
	}
	syscall.Exit(0) // and not os.Exit, with which a test's race detector sleeps for a second
}
