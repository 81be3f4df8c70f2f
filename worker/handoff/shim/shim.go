// Package shim is the first thing that a worker's process does: it reads the command over a socket, and becomes it by
// execve(2). Between the two the launcher knows the process, and can say in the command's environment what its pid is.
//
// The shim is the launcher's own program, and a client waits for it. So it does not wait until that program has started:
// it is the initialisation of this package. Packages are initialised in the order of their import paths, each as soon as
// all that it imports is (the linker has done so since Go 1.21, https://go.dev/doc/go1.21#language). This one imports
// packages syscall and unsafe alone, and so precedes package os and all that needs it. With a fmt or strconv here the client would wait
// for most of the program, and TestInitialisedEarly fails.
//
// All of it runs on the process's first thread, as init functions do, and has to: a parent-death signal belongs to a
// thread (PR_SET_PDEATHSIG(2const)), and from another one a launcher that was killed now and then left its worker behind.
package shim

import (
	"syscall"
	"unsafe"
)

// Variable is set in the environment of the shim, to the number of the descriptor over which the command comes.
const Variable = "GATEWAY_SHIM"

// Command is what the shim becomes.
type Command struct {
	Path string   // absolute path of the program
	Argv []string // with the program's name as it shall see it
	Env  []string
	// Filter is a program of seccomp(2) that the worker and all that it starts live under, as the kernel has it in memory (struct
	// sock_filter); "": none.
	Filter string
	// Privileges lets the shim set no_new_privs for the filter, where it has no other right to one.
	Privileges bool
	// Besides lets the worker start without the filter where the kernel refuses it.
	Besides bool
	// Freezable lets its control group be frozen while a call waits for the answer: any signal can interrupt that, and not SIGKILL alone.
	Freezable bool
}

// The exit statuses of a shim that has not become its command are a shell's.
const (
	cannotExecute = 126
	notFound      = 127
)

func init() {
	if descriptor, set := syscall.Getenv(Variable); set {
		syscall.Exit(run(descriptor))
	}
}

// run returns only when it has failed. Why execve(2) failed it says over the descriptor.
func run(descriptor string) (status int) {
	fd, ok := number(descriptor)
	if !ok {
		_, _ = syscall.Write(syscall.Stderr, []byte("gateway: "+Variable+"="+descriptor+" is no descriptor: only the launcher sets this variable\n"))
		return cannotExecute
	}
	// On success execve closes it, which tells the launcher so.
	syscall.CloseOnExec(fd)
	r := reader{fd: fd}
	command := Command{Path: r.string(), Argv: r.strings(), Env: r.strings(), Filter: r.string()}
	command.Privileges, command.Besides, command.Freezable = r.number() != 0, r.number() != 0, r.number() != 0
	if r.failed {
		return cannotExecute // the launcher has gone, so there is nobody to tell
	}
	if command.Filter != "" && !command.filter(fd) && !command.Besides {
		return cannotExecute
	}
	err := syscall.Exec(command.Path, command.Argv, command.Env)
	errno, ok := err.(syscall.Errno)
	if !ok {
		errno = syscall.EINVAL
	}
	_, _ = syscall.Write(fd, appendNumber(nil, int(errno)))
	if errno == syscall.ENOENT {
		return notFound
	}
	return cannotExecute
}

// Constants of the kernel's linux/seccomp.h and linux/prctl.h, which package syscall lacks.
const (
	setModeFilter   = 1
	setNoNewPrivs   = 38
	specAllow       = 1 << 2
	newListener     = 1 << 3
	waitKillable    = 1 << 5 // Linux 5.19
	instructionSize = 8
)

// The answers about the filter, each with whether no_new_privs was set and with an error number.
const (
	installed = 'F'
	refused   = 'R'
)

// filter installs the filter and sends the descriptor on which the kernel tells of what it traps, which is closed by execve.
// A filter belongs to the thread, and execve keeps that of the thread that calls it.
func (c Command) filter(fd int) bool {
	listener, errno := c.install()
	took := 0
	if errno == syscall.EACCES && c.Privileges {
		// Neither CAP_SYS_ADMIN nor no_new_privs.
		if _, _, errno = syscall.RawSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); errno == 0 {
			took = 1
			listener, errno = c.install()
		}
	}
	if errno != 0 {
		_, _ = syscall.Write(fd, appendNumber([]byte{refused, byte(took)}, int(errno)))
		return false
	}
	return syscall.Sendmsg(fd, appendNumber([]byte{installed, byte(took)}, 0), syscall.UnixRights(listener), nil, 0) == nil
}

func (c Command) install() (listener int, errno syscall.Errno) {
	code := []byte(c.Filter)
	program := syscall.SockFprog{Len: uint16(len(code) / instructionSize), Filter: (*syscall.SockFilter)(unsafe.Pointer(&code[0]))}
	var flags uintptr = newListener | waitKillable | specAllow
	if c.Freezable {
		flags &^= waitKillable
	}
	fd, _, errno := syscall.RawSyscall(sysSeccomp, setModeFilter, flags, uintptr(unsafe.Pointer(&program)))
	return int(fd), errno
}

// Filtered is what the shim says of the filter.
type Filtered struct {
	Privileges bool  // it has set no_new_privs
	Refused    error // why the kernel did not install it; nil: it is installed, and a descriptor comes beside the answer
}

// FilteredSize is the length of what it says of it, in bytes, before all else.
const FilteredSize = 2 + numberSize

// DecodeFiltered reads that.
func DecodeFiltered(answer []byte) (f Filtered, ok bool) {
	if len(answer) != FilteredSize || answer[0] != installed && answer[0] != refused {
		return f, false
	}
	f.Privileges = answer[1] != 0
	if answer[0] == refused {
		f.Refused = syscall.Errno(decodeNumber(answer[2:]))
	}
	return f, true
}

func number(text string) (n int, ok bool) {
	for _, c := range []byte(text) {
		if c < '0' || c > '9' || n > 1<<20 {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, text != ""
}

// The command travels as its strings, each after its length, each list after its own. A number has four bytes, the
// highest first.

// Encode returns the command as the shim reads it.
func Encode(c Command) []byte {
	message := appendString(nil, c.Path)
	for _, list := range [][]string{c.Argv, c.Env} {
		message = appendNumber(message, len(list))
		for _, text := range list {
			message = appendString(message, text)
		}
	}
	message = appendString(message, c.Filter)
	for _, yes := range []bool{c.Privileges, c.Besides, c.Freezable} {
		n := 0
		if yes {
			n = 1
		}
		message = appendNumber(message, n)
	}
	return message
}

// Failure is why the shim could not become its command, from what it has answered: nothing when it could.
func Failure(answer []byte) error {
	if len(answer) != numberSize {
		return nil
	}
	return syscall.Errno(decodeNumber(answer))
}

const numberSize = 4

func appendNumber(message []byte, n int) []byte {
	return append(message, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func decodeNumber(b []byte) int { return int(b[0])<<24 | int(b[1])<<16 | int(b[2])<<8 | int(b[3]) }

func appendString(message []byte, text string) []byte {
	return append(appendNumber(message, len(text)), text...)
}

// reader reads from a descriptor. Once it has failed, it returns nothing any more.
type reader struct {
	fd     int
	failed bool
}

func (r *reader) bytes(n int) []byte {
	b := make([]byte, n)
	for at := 0; at < n && !r.failed; {
		read, err := syscall.Read(r.fd, b[at:])
		switch {
		case err == syscall.EINTR:
		case err != nil || read == 0:
			r.failed = true
		default:
			at += read
		}
	}
	return b
}

func (r *reader) number() int { return decodeNumber(r.bytes(numberSize)) }

func (r *reader) string() string { return string(r.bytes(r.number())) }

func (r *reader) strings() []string {
	var list []string
	for n := r.number(); n > 0 && !r.failed; n-- {
		list = append(list, r.string())
	}
	return list
}
