package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidIPv6 has socket(2) refuse the family to this thread, and to what it executes from now on.
func forbidIPv6() error {
	const number, firstArgument = 0, 16 // in struct seccomp_data of linux/seccomp.h; both are of the low half
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	skipUnless := func(value uint32, skipped uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jf: skipped}
	}
	answer := func(value uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
	}
	filter := []unix.SockFilter{
		load(number), skipUnless(unix.SYS_SOCKET, 3),
		load(firstArgument), skipUnless(unix.AF_INET6, 1),
		answer(unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)),
		answer(unix.SECCOMP_RET_ALLOW),
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("forbid IPv6: %w", err)
	}
	return nil
}

// withoutIPv6 is how a command is run to which the family is forbidden.
func withoutIPv6(argv []string) []string {
	encoded, err := json.Marshal(argv)
	if err != nil {
		panic(err)
	}
	return []string{"/proc/self/exe", noIPv6Role, string(encoded)}
}

func runWithoutIPv6(arg string) error {
	var argv []string
	if err := json.Unmarshal([]byte(arg), &argv); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	if err := forbidIPv6(); err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}
