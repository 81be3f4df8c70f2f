package handoff

import (
	_ "embed"
	"encoding/json"
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

// packPreload passes poolSize duplicates of each socket and a pipe for the
// reports, and makes Node.js load the script that uses them.
func packPreload(sockets []Socket, environ []string, directory string) (*Parcel, error) {
	script := filepath.Join(directory, "preload.cjs")
	// By itself renameio would try, with files of its own, whether it can use /tmp: the first client would wait for that.
	if err := renameio.WriteFile(script, preloadScript, 0o644, renameio.WithTempDir(directory)); err != nil {
		return nil, fmt.Errorf("write the script that hands the sockets to Node.js: %w", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, os.NewSyscallError("pipe", err)
	}
	p := &Parcel{Files: []*os.File{writer}, Reports: newReports(reader), own: []*os.File{writer}}
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
			entry.FDs = append(entry.FDs, 3+len(p.Files))
			p.Files = append(p.Files, socket.File)
		}
		order.Sockets = append(order.Sockets, entry)
	}
	encoded, err := json.Marshal(order)
	if err != nil {
		return nil, fmt.Errorf("describe the sockets to Node.js: %w", err)
	}
	options := option
	for _, entry := range environ {
		if given, ok := strings.CutPrefix(entry, "NODE_OPTIONS="); ok && given != "" {
			options = given + " " + option
		}
	}
	p.Env = []string{"NODE_OPTIONS=" + options, "GATEWAY_PRELOAD=" + string(encoded)}
	return p, nil
}

// quoteNodeOption quotes a word for NODE_OPTIONS, where double quotes group and
// a backslash inside them escapes (ParseNodeOptionsEnvVar in Node's src/node_options.cc).
func quoteNodeOption(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}
