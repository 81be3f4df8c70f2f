package handoff

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/nodejs"
)

// poolSize is how often one process can listen on an address, where there are few: Node.js cannot
// duplicate a descriptor and closes the one it listened on with its server, so
// each listen uses up one of these. A process that has used them all says so and
// is replaced by the next generation. All addresses together get mostPooled, which leaves a worker that may have 1,024
// descriptors, systemd's default, half of them; and a quarter of what this process may have, which takes each twice for a moment.
const (
	poolSize   = 64
	mostPooled = 512
)

// pooled is how many duplicates each of so many sockets gets.
func pooled(sockets int) (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	size := int(min(poolSize, mostPooled/uint64(max(1, sockets)), limit.Max/4/uint64(max(1, sockets))))
	if size == 0 {
		return 0, fmt.Errorf("hand %d sockets to Node.js: the limit of %d descriptors is too low, LimitNOFILE=%d is the least", sockets, limit.Max, 4*sockets)
	}
	return size, nil
}

//go:embed preload.cjs
var preloadScript []byte

// preload passes duplicates of each socket and a pipe for the reports,
// and makes Node.js load the script that uses them.
type preload struct {
	files   []*os.File
	writer  *os.File // one of the files: the end of the pipe that the worker writes to
	env     []string
	reports *Reports
	// gate is the launcher's end of the pipe at which the worker waits, and wait, one of the files, the worker's; nil without one.
	gate, wait *os.File
}

// newPreload passes the sockets by LISTEN_FDS as well, if passed is true: from descriptor 3 on, its own behind them.
func newPreload(sockets []Socket, passed bool, held Gate, environ []string, directory string) (*preload, error) {
	size, err := pooled(len(sockets))
	if err != nil {
		return nil, err
	}
	script, err := nodejs.Write(directory, "preload.cjs", preloadScript)
	if err != nil {
		return nil, err
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	p := &preload{writer: writer, reports: newReports(reader)}
	if passed {
		p.files, p.env = listenFDs(sockets).Files(), listenFDs(sockets).Env()
	}
	p.files = append(p.files, writer)
	report := 2 + len(p.files)
	gate := 0
	if held.holds() {
		if err := p.openGate(); err != nil {
			return nil, errors.Join(err, p.Close())
		}
		gate = 2 + len(p.files)
	}
	type pool struct {
		Path    string `json:"path,omitempty"` // of a unix socket; else the next three
		Host    string `json:"host,omitempty"`
		Port    uint16 `json:"port,omitempty"`
		Dual    bool   `json:"dual,omitempty"`
		Backlog int    `json:"backlog"`
		FDs     []int  `json:"fds"`
	}
	option := nodejs.Require(script)
	order := struct {
		Option  string `json:"option"`
		Report  int    `json:"report"`
		Gate    int    `json:"gate,omitempty"`
		Sockets []pool `json:"sockets"`
		Passed  bool   `json:"passed"`
		Closes  bool   `json:"closes,omitempty"`
	}{Option: option, Report: report, Gate: gate, Passed: passed, Closes: held != NoGate}
	for _, socket := range sockets {
		entry := pool{Path: socket.Address.Path(), Port: socket.Address.Port(), Dual: socket.DualStack, Backlog: cmp.Or(socket.Backlog, 4096)}
		if ip := socket.Address.Addr(); ip.IsValid() {
			entry.Host = ip.String()
		}
		for range size {
			entry.FDs = append(entry.FDs, 3+len(p.files))
			p.files = append(p.files, socket.File)
		}
		order.Sockets = append(order.Sockets, entry)
	}
	encoded, err := json.Marshal(order)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("describe the sockets to Node.js: %w", err), p.Close())
	}
	p.env = append(p.env, nodejs.Options(environ, option), "GATEWAY_PRELOAD="+string(encoded))
	return p, nil
}

func (p *preload) Kind() Kind { return Preload }

func (p *preload) Files() []*os.File { return p.files }

func (p *preload) Env() []string { return p.env }

func (p *preload) Shim() *Order { return nil }

// openGate makes the pipe from which the worker reads while it waits. Only the launcher's end must not block.
func (p *preload) openGate() error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	p.wait = os.NewFile(uintptr(ends[0]), "gate")
	err := unix.SetNonblock(ends[1], true)
	p.gate = os.NewFile(uintptr(ends[1]), "gate")
	p.files = append(p.files, p.wait)
	return err
}

// Started closes the worker's ends of the pipes: the reports end with the worker.
func (p *preload) Started(int) { _, _ = p.writer.Close(), p.wait.Close() }

func (p *preload) Reports() *Reports { return p.reports }

// Pass writes a byte. It fails where the worker has ended, or is none that we know.
func (p *preload) Pass(netaddr.Address) {
	if p.gate != nil {
		_, _ = p.gate.Write([]byte{0})
	}
}

// Release closes the pipe, which ends each read.
func (p *preload) Release() { _ = p.gate.Close() }

func (p *preload) Watch() bool { return false }

func (p *preload) Served() {}

func (p *preload) Close() error {
	_, _, _ = p.writer.Close(), p.wait.Close(), p.gate.Close() // unless that was done
	return p.reports.Close()
}

// whichever is both: for a shell or a wrapper, of which nobody knows yet what it becomes.
type whichever struct{ *preload }

func (whichever) Kind() Kind { return Auto }

func (whichever) Shim() *Order { return &Order{ListenPID: true} }
