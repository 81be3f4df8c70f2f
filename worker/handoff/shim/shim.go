// Package shim is the first thing that a worker's process does: it reads the command over a socket, and becomes it by
// execve(2). Between the two the launcher knows the process, and can say in the command's environment what its pid is.
//
// The shim is the launcher's own program, and a client waits for it. So it does not wait until that program has started:
// it is the initialisation of this package. Packages are initialised in the order of their import paths, each as soon as
// all that it imports is (the linker has done so since Go 1.21, https://go.dev/doc/go1.21#language). This one imports
// package syscall alone, and so precedes package os and all that needs it. With a fmt or strconv here the client would wait
// for most of the program, and TestInitialisedEarly fails.
//
// All of it runs on the process's first thread, as init functions do, and has to: a parent-death signal belongs to a
// thread (PR_SET_PDEATHSIG(2const)), and from another one a launcher that was killed now and then left its worker behind.
package shim

import "syscall"

// Variable is set in the environment of the shim, to the number of the descriptor over which the command comes.
const Variable = "GATEWAY_SHIM"

// Command is what the shim becomes.
type Command struct {
	Path string   // absolute path of the program
	Argv []string // with the program's name as it shall see it
	Env  []string
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
	command := Command{Path: r.string(), Argv: r.strings(), Env: r.strings()}
	if r.failed {
		return cannotExecute // the launcher has gone, so there is nobody to tell
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
