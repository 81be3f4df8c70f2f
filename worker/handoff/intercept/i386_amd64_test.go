package intercept_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/sockets"
)

// gate is code that makes the call of i386 (int 0x80) whose number and arguments lie behind it, and puts the result there.
type gate struct{ page []byte }

// Where they lie in the page.
const (
	gateWords   = 2048
	gateResult  = gateWords + 16
	gateAddress = gateWords + 64
)

func newGate() (g gate, err error) {
	g.page, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_32BIT)
	if err != nil {
		return g, err
	}
	at := binary.LittleEndian.AppendUint32(nil, g.at(gateWords))
	var code []byte
	code = append(append(code, 0xbe), at...)  // mov esi, words
	code = append(code, 0x8b, 0x06)           // mov eax, [rsi]
	code = append(code, 0x8b, 0x5e, 4)        // mov ebx, [rsi+4]
	code = append(code, 0x8b, 0x4e, 8)        // mov ecx, [rsi+8]
	code = append(code, 0x8b, 0x56, 12)       // mov edx, [rsi+12]
	code = append(code, 0xcd, 0x80)           // int 0x80
	code = append(append(code, 0xbe), at...)  // mov esi, words
	code = append(code, 0x89, 0x46, 16, 0xc3) // mov [rsi+16], eax; ret
	copy(g.page, code)
	return g, nil
}

// at is where something of the page lies, in 32 bits.
func (g gate) at(offset int) uint32 { return uint32(uintptr(unsafe.Pointer(&g.page[offset]))) }

// put puts words into the page.
func (g gate) put(offset int, words ...uint32) {
	for i, word := range words {
		binary.LittleEndian.PutUint32(g.page[offset+4*i:], word)
	}
}

func (g gate) call(words ...uint32) string {
	g.put(gateWords, 0, 0, 0, 0)
	g.put(gateWords, words...)
	code := unsafe.Pointer(&g.page[0])
	value := unsafe.Pointer(&code)
	(*(*func())(unsafe.Pointer(&value)))()
	result := int32(binary.LittleEndian.Uint32(g.page[gateResult:]))
	if result < 0 {
		return unix.ErrnoName(unix.Errno(-result))
	}
	return "0"
}

// oldCalls binds and listens by the calls of i386.
func oldCalls(port uint16) {
	g, err := newGate()
	if err != nil {
		fmt.Println(err)
		return
	}
	address := inet4(port)[:16]
	for _, socketcall := range []bool{false, true} {
		fd := uint32(tcp4())
		copy(g.page[gateAddress:], address)
		bind := []uint32{361, fd, g.at(gateAddress), 16}
		listen := []uint32{363, fd, 5}
		if socketcall {
			bind, listen = []uint32{102, 2, g.at(gateAddress + 64)}, []uint32{102, 4, g.at(gateAddress + 96)}
			g.put(gateAddress+64, fd, g.at(gateAddress), 16)
			g.put(gateAddress+96, fd, 5)
		}
		fmt.Println(g.call(bind...), listening(int(fd)), g.call(listen...))
		_ = unix.Close(int(fd))
	}
	// And by a length and arguments that are none.
	fd := uint32(tcp4())
	g.put(gateAddress+64, fd, g.at(gateAddress), 12)
	fmt.Println(g.call(102, 2, g.at(gateAddress+64)), g.call(102, 2, 8), g.call(102, 4, 8), g.call(361, fd, 8, 16))
}

func init() {
	ofPort("i386", oldCalls)
	programs["i386-getpid"] = func([]string) int {
		g, err := newGate()
		if err != nil {
			return 1
		}
		fmt.Print(g.call(20))
		return 0
	}
}

// TestI386: a program for i386 gets the socket too, also by the calls of a program that is none. Where the kernel takes no such
// calls from anybody (ia32_emulation=off, and some virtual machines), such a program comes to its end at the first of them, and binds nothing.
func TestI386(t *testing.T) {
	t.Parallel()
	if _, err := newGate(); errors.Is(err, unix.EPERM) {
		t.Fatal("no code can be written here:", err)
	}
	held := sockets.Hold(t, "127.0.0.1")
	asked := program("i386-getpid")
	asked.Stderr = nil // a fault prints all goroutines
	if output, err := asked.Output(); err != nil && len(output) == 0 && asked.ProcessState.ExitCode() == 2 {
		w := start(t, held, "i386", port(held[0]))
		w.ends(2)
		t.Log("this kernel takes no calls of i386 from anybody")
		return
	}
	w := start(t, held, "i386", port(held[0]))
	if got := w.output(); got != "0 true 0\n0 true 0\nEINVAL EFAULT EFAULT EFAULT\n" {
		t.Errorf("it got %q", got)
	}
	w.ends(0)
	if _, backlog := sockets.Queue(t, held[0].File); backlog != 4096 {
		t.Errorf("the queue has place for %d", backlog)
	}
}
