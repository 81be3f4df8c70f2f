package handoff

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// poolSize is how often one process can listen on an address: Node.js cannot
// duplicate a descriptor and closes the one it listened on with its server, so
// each listen uses up one of these. A process that has used them all says so and
// is replaced by the next generation.
const poolSize = 64

//go:embed preload.cjs
var preloadScript []byte

// preload passes poolSize duplicates of each socket and a pipe for the reports,
// and makes Node.js load the script that uses them.
type preload struct {
	files   []*os.File // the end of the pipe that the worker writes to comes first
	env     []string
	reports *Reports
}

func newPreload(sockets []Socket, environ []string, directory string) (Handoff, error) {
	script := filepath.Join(directory, "preload.cjs")
	// One that lies there unchanged is used as it is: /run may be full by now.
	if there, err := os.ReadFile(script); err != nil || !bytes.Equal(there, preloadScript) {
		// By itself renameio would try, with files of its own, whether it can use /tmp: the first client would wait for that.
		if err := renameio.WriteFile(script, preloadScript, 0o644, renameio.WithTempDir(directory)); err != nil {
			return nil, fmt.Errorf("write the script that hands the sockets to Node.js: %w", err)
		}
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	p := &preload{files: []*os.File{writer}, reports: newReports(reader)}
	type pool struct {
		Host string `json:"host"`
		Port uint16 `json:"port"`
		FDs  []int  `json:"fds"`
	}
	option := "--require " + quoteNodeOption(script)
	order := struct {
		Option  string `json:"option"`
		Report  int    `json:"report"`
		Sockets []pool `json:"sockets"`
	}{Option: option, Report: 3}
	for _, socket := range sockets {
		entry := pool{Host: socket.Address.Addr().String(), Port: socket.Address.Port()}
		for range poolSize {
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
	p.env = []string{"NODE_OPTIONS=" + options, "GATEWAY_PRELOAD=" + string(encoded)}
	return p, nil
}

func (p *preload) Kind() Kind { return Preload }

func (p *preload) Files() []*os.File { return p.files }

func (p *preload) Env() []string { return p.env }

func (p *preload) Shim() *Order { return nil }

// Started closes the worker's end of the pipe: the reports end with the worker.
func (p *preload) Started(int) { _ = p.files[0].Close() }

func (p *preload) Reports() *Reports { return p.reports }

func (p *preload) Release() {}

func (p *preload) Close() error {
	_ = p.files[0].Close() // unless Started has
	return p.reports.Close()
}

// quoteNodeOption quotes a word for NODE_OPTIONS, where double quotes group and
// a backslash inside them escapes (ParseNodeOptionsEnvVar in Node's src/node_options.cc).
func quoteNodeOption(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}
