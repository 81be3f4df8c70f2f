package intercept

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// call is a bind(2) or a listen(2), by whichever system call it was made.
type call struct {
	bind    bool
	fd      int
	address uint64 // where the address is in the caller's memory
	length  uint32 // of it
}

// memory reads what is at an address of the caller's memory, all of it or nothing.
type memory func(at uint64, to []byte) error

// decode tells which call it is. The error is that of a memory that cannot be read.
func decode(data seccompData, read memory) (c call, ok bool, err error) {
	args := data.args
	c = call{fd: int(int32(args[0])), address: args[1], length: uint32(args[2])}
	switch {
	case data.arch == unix.AUDIT_ARCH_X86_64 && data.nr == amd64Bind, data.arch == unix.AUDIT_ARCH_AARCH64 && data.nr == arm64Bind:
		c.bind = true
	case data.arch == unix.AUDIT_ARCH_X86_64 && data.nr == amd64Listen, data.arch == unix.AUDIT_ARCH_AARCH64 && data.nr == arm64Listen:
	case data.arch == unix.AUDIT_ARCH_I386 && data.nr == i386Bind:
		c.bind, c.address = true, uint64(uint32(args[1]))
	case data.arch == unix.AUDIT_ARCH_I386 && data.nr == i386Listen:
	case data.arch == unix.AUDIT_ARCH_I386 && data.nr == i386Socketcall && uint32(args[0]) == callBind:
		words := make([]byte, 12)
		if err := read(uint64(uint32(args[1])), words); err != nil {
			return call{}, false, err
		}
		word := func(i int) uint32 { return binary.LittleEndian.Uint32(words[4*i:]) }
		c = call{bind: true, fd: int(int32(word(0))), address: uint64(word(1)), length: word(2)}
	case data.arch == unix.AUDIT_ARCH_I386 && data.nr == i386Socketcall && uint32(args[0]) == callListen:
		words := make([]byte, 8)
		if err := read(uint64(uint32(args[1])), words); err != nil {
			return call{}, false, err
		}
		c = call{fd: int(int32(binary.LittleEndian.Uint32(words)))}
	default:
		return call{}, false, nil
	}
	if !c.bind {
		c.address, c.length = 0, 0
	}
	return c, true, nil
}

// memoryOf is that of a thread.
func memoryOf(tid int) memory {
	return func(at uint64, to []byte) error {
		local := []unix.Iovec{{Base: &to[0], Len: uint64(len(to))}}
		n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(to)}}, 0)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			// Perhaps only the call is forbidden: systemd's SystemCallFilter= has it in @ipc.
			return readFile(tid, at, to, err)
		}
		if err == nil && n < len(to) {
			err = unix.EFAULT
		}
		return err
	}
}

func readFile(tid int, at uint64, to []byte, otherwise error) error {
	file, err := os.Open("/proc/" + strconv.Itoa(tid) + "/mem")
	if err != nil {
		return otherwise
	}
	defer file.Close()
	if int64(at) < 0 {
		return unix.EFAULT
	}
	if _, err := file.ReadAt(to, int64(at)); err != nil {
		return unix.EFAULT
	}
	return nil
}
