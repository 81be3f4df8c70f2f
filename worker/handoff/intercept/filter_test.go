package intercept

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// trapped runs the filter as the kernel does, for the few instructions that it has.
func trapped(t *testing.T, data seccompData) bool {
	t.Helper()
	words := map[uint32]uint32{0: uint32(data.nr), 4: data.arch, 16: uint32(data.args[0]), 32: uint32(data.args[2])}
	var a uint32
	for at := 0; at < len(filter); at++ {
		jump := false
		switch i := filter[at]; i.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			word, known := words[i.K]
			if !known {
				t.Fatalf("instruction %d loads %d", at, i.K)
			}
			a = word
			continue
		case unix.BPF_RET | unix.BPF_K:
			return i.K == unix.SECCOMP_RET_USER_NOTIF
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump = a == i.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump = a >= i.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump = a > i.K
		default:
			t.Fatalf("instruction %d has code %#x", at, i.Code)
		}
		if jump {
			at += int(filter[at].Jt)
		} else {
			at += int(filter[at].Jf)
		}
	}
	t.Fatal("the filter has no end")
	return false
}

// TestFilter: what is trapped, by whichever processor's call, and nothing else.
func TestFilter(t *testing.T) {
	t.Parallel()
	const amd64, arm64, i386, x32 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_I386, 0x40000000
	for name, test := range map[string]struct {
		arch   uint32
		nr     int32
		first  uint64
		length uint64
		want   bool
	}{
		"bind":                        {amd64, 49, 3, 16, true},
		"bind IPv6":                   {amd64, 49, 3, 28, true},
		"bind, longest":               {amd64, 49, 3, 128, true},
		"bind netlink":                {amd64, 49, 3, 12, false},
		"bind, short":                 {amd64, 49, 3, 15, false},
		"bind, long":                  {amd64, 49, 3, 129, false},
		"bind, negative":              {amd64, 49, 3, 0xffffffff, false},
		"bind, more than an int":      {amd64, 49, 3, 1<<32 + 16, true}, // the kernel sees 16
		"listen":                      {amd64, 50, 3, 0, true},
		"accept":                      {amd64, 43, 3, 16, false},
		"getppid":                     {amd64, 110, 3, 16, false},
		"x32 bind":                    {amd64, 49 | x32, 3, 16, false},
		"i386's number of bind":       {amd64, 361, 3, 16, false},
		"arm64 bind":                  {arm64, 200, 3, 16, true},
		"arm64 bind, short":           {arm64, 200, 3, 12, false},
		"arm64 listen":                {arm64, 201, 3, 0, true},
		"arm64 accept":                {arm64, 202, 3, 16, false},
		"amd64's number on arm64":     {arm64, 49, 3, 16, false},
		"i386 bind":                   {i386, 361, 3, 16, true},
		"i386 bind, short":            {i386, 361, 3, 12, false},
		"i386 listen":                 {i386, 363, 3, 0, true},
		"socketcall bind":             {i386, 102, 2, 0, true}, // its length is in memory
		"socketcall listen":           {i386, 102, 4, 0, true},
		"socketcall accept":           {i386, 102, 5, 16, false},
		"socketcall socket":           {i386, 102, 1, 16, false},
		"i386's umask":                {i386, 60, 2, 16, false},
		"amd64's number of i386":      {i386, 49, 3, 16, false}, // geteuid
		"another processor (riscv64)": {unix.AUDIT_ARCH_RISCV64, 200, 3, 16, false},
	} {
		data := seccompData{nr: test.nr, arch: test.arch, args: [6]uint64{test.first, 0, test.length}}
		if got := trapped(t, data); got != test.want {
			t.Errorf("%s is trapped: %t", name, got)
		}
	}
}

// TestFilterText: the filter as seccomp(2) gets it has 8 bytes for each instruction.
func TestFilterText(t *testing.T) {
	t.Parallel()
	text := []byte(Filter())
	if len(text) != 8*len(filter) {
		t.Fatalf("%d bytes for %d instructions", len(text), len(filter))
	}
	for i, want := range filter {
		b := text[8*i:]
		got := unix.SockFilter{Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:])}
		if got != want {
			t.Errorf("instruction %d is %+v, not %+v", i, got, want)
		}
	}
}
