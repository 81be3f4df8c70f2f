package handoff

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
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
}

// newPreload passes the sockets by LISTEN_FDS as well, if passed is true: from descriptor 3 on, its own behind them.
func newPreload(sockets []Socket, passed bool, environ []string, directory string) (*preload, error) {
	size, err := pooled(len(sockets))
	if err != nil {
		return nil, err
	}
	script := filepath.Join(directory, "preload.cjs")
	// One that lies there unchanged is used as it is: /run may be full by now. A worker that has become another user reads it as well.
	if there, err := os.ReadFile(script); err != nil || !bytes.Equal(there, preloadScript) {
		// By itself renameio would try, with files of its own, whether it can use /tmp: the first client would wait for that.
		if err := renameio.WriteFile(script, preloadScript, 0o644, renameio.WithTempDir(directory), renameio.IgnoreUmask()); err != nil {
			return nil, fmt.Errorf("write the script that hands the sockets to Node.js: %w", err)
		}
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
	type pool struct {
		Host    string `json:"host"`
		Port    uint16 `json:"port"`
		Dual    bool   `json:"dual"`
		Backlog int    `json:"backlog"`
		FDs     []int  `json:"fds"`
	}
	option := "--require " + quoteNodeOption(script)
	order := struct {
		Option  string `json:"option"`
		Report  int    `json:"report"`
		Sockets []pool `json:"sockets"`
		Passed  bool   `json:"passed"`
	}{Option: option, Report: 2 + len(p.files), Passed: passed}
	for _, socket := range sockets {
		entry := pool{Host: socket.Address.Addr().String(), Port: socket.Address.Port(), Dual: socket.DualStack, Backlog: cmp.Or(socket.Backlog, 4096)}
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
	options := option
	for _, entry := range environ {
		if given, ok := strings.CutPrefix(entry, "NODE_OPTIONS="); ok && given != "" {
			options = given + " " + option
		}
	}
	p.env = append(p.env, "NODE_OPTIONS="+options, "GATEWAY_PRELOAD="+string(encoded))
	return p, nil
}

func (p *preload) Kind() Kind { return Preload }

func (p *preload) Files() []*os.File { return p.files }

func (p *preload) Env() []string { return p.env }

func (p *preload) Shim() *Order { return nil }

// Started closes the worker's end of the pipe: the reports end with the worker.
func (p *preload) Started(int) { _ = p.writer.Close() }

func (p *preload) Reports() *Reports { return p.reports }

func (p *preload) Release() {}

func (p *preload) Close() error {
	_ = p.writer.Close() // unless Started has
	return p.reports.Close()
}

// whichever is both: for a shell or a wrapper, of which nobody knows yet what it becomes.
type whichever struct{ *preload }

func (whichever) Kind() Kind { return Auto }

func (whichever) Shim() *Order { return &Order{ListenPID: true} }

// quoteNodeOption quotes a word for NODE_OPTIONS, where double quotes group and
// a backslash inside them escapes (ParseNodeOptionsEnvVar in Node's src/node_options.cc).
func quoteNodeOption(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}
