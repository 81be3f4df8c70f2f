package intercept

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The lengths that the address of a bind(2) can have and be an IP address: at least struct sockaddr_in, at most what the kernel takes
// (struct sockaddr_storage). What is shorter or longer is not even asked for: each getaddrinfo(3) binds a netlink socket, with 12.
const (
	shortest = unix.SizeofSockaddrInet4
	longest  = 128
)

// Calls of i386, which a program for amd64 can make too (int 0x80), and their numbers within socketcall(2).
const (
	i386Bind       = 361
	i386Listen     = 363
	i386Socketcall = 102
	callBind       = 2
	callListen     = 4

	amd64Bind, amd64Listen = 49, 50
	arm64Bind, arm64Listen = 200, 201
)

// filter traps bind(2) with such a length, and listen(2). Every other call passes, and all calls of another processor's: x32 has other
// numbers, and is not in the kernels of distributions.
var filter = []unix.SockFilter{
	0:  load(4), // arch, in struct seccomp_data
	1:  ifEqual(unix.AUDIT_ARCH_X86_64, 0, 3),
	2:  load(0), // nr
	3:  ifEqual(amd64Bind, 13, 0),
	4:  ifEqual(amd64Listen, 15, 16),
	5:  ifEqual(unix.AUDIT_ARCH_AARCH64, 0, 3),
	6:  load(0),
	7:  ifEqual(arm64Bind, 9, 0),
	8:  ifEqual(arm64Listen, 11, 12),
	9:  ifEqual(unix.AUDIT_ARCH_I386, 0, 11),
	10: load(0),
	11: ifEqual(i386Bind, 5, 0),
	12: ifEqual(i386Listen, 7, 0),
	13: ifEqual(i386Socketcall, 0, 7),
	14: load(16), // the first argument
	15: ifEqual(callBind, 4, 0),
	16: ifEqual(callListen, 3, 4),
	17: load(32), // the third argument, addrlen: an int, so its low half
	18: {Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: shortest, Jf: 2},
	19: {Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: longest, Jt: 1},
	20: {Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
	21: {Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
}

func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ifEqual(value uint32, jt, jf uint8) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: value, Jt: jt, Jf: jf}
}

// Filter is the program for seccomp(2), as the kernel has it in memory.
func Filter() string {
	var code []byte
	for _, instruction := range filter {
		code = binary.NativeEndian.AppendUint16(code, instruction.Code)
		code = append(code, instruction.Jt, instruction.Jf)
		code = binary.NativeEndian.AppendUint32(code, instruction.K)
	}
	return string(code)
}
