package prewarm

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"openclaw-gateway/worker/nodejs"
)

//go:embed prewarm.cjs
var script []byte

//go:embed gate.mjs
var gateScript []byte

// Event is what a process tells that loads modules ahead.
type Event string

const (
	Parked Event = "parked" // it has loaded them, and waits
	Failed Event = "failed" // it could not; Detail says why, in its own words
	Stale  Event = "stale"  // it has begun, and what Detail names is not what one of the modules has read
	Same   Event = "same"   // it has begun, and has compared all of it: it tells no more
)

// Report is such an event.
type Report struct {
	Event   Event  `json:"event"`
	Modules int    `json:"modules"` // that it has loaded
	Apart   int    `json:"apart"`   // that it has left to the program
	Detail  string `json:"detail"`
}

// Settled is how long after it has begun to listen, which is in the midst of its start, a process saves what it has loaded; it does once more
// after moreSettled times as long. One that was loaded ahead is compared for so long with what was learned.
const (
	Settled     = 10 * time.Second
	moreSettled = 6
)

// Told is when a process has saved all, which begins to listen before it is ready.
func Told(settled time.Duration) time.Duration { return (moreSettled + 1) * settled }

// Ahead is how one process learns its modules, or loads them ahead.
type Ahead struct {
	program   Program
	directory string // of the list
	key       string
	list      List
	files     string // of the list, when the process was started

	env          []string
	reader       *os.File
	lines        *bufio.Reader
	writer       *os.File // the process's end
	gate, waiter *os.File // the launcher's end, and the process's
}

// Learning has a process tell which modules it loads; nil where an earlier one has done so. Place is the launcher's runtime directory, and environ the worker's environment so far.
func Learning(program Program, directory, place string, environ []string, settled time.Duration) (*Ahead, error) {
	key, err := program.Key()
	if err != nil {
		return nil, err
	}
	if _, err := ReadList(directory, key); err == nil {
		return nil, nil
	}
	a := &Ahead{program: program, directory: directory, key: key}
	return a, a.arrange(place, environ, settled, 0)
}

// Loading has a process load what the list names; its files are that from the descriptor first on.
func Loading(program Program, directory, place string, environ []string, settled time.Duration, first int) (*Ahead, error) {
	key, err := program.Key()
	if err != nil {
		return nil, err
	}
	a := &Ahead{program: program, directory: directory, key: key}
	if a.list, err = ReadList(directory, key); err != nil {
		return nil, err
	}
	if a.files, err = a.list.Files(); err != nil {
		return nil, errors.Join(err, a.Forget()) // it would be of no use any more, and the next life tells anew
	}
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	if err := a.arrange(place, environ, settled, first); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *Ahead) open() (err error) {
	if a.reader, a.writer, err = os.Pipe(); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	a.lines = bufio.NewReader(a.reader)
	if a.waiter, a.gate, err = os.Pipe(); err != nil {
		return os.NewSyscallError("pipe", err)
	}
	return nil
}

// arrange writes the scripts, and says what they are to do.
func (a *Ahead) arrange(place string, environ []string, settled time.Duration, first int) error {
	required, err := nodejs.Write(place, "prewarm.cjs", script)
	if err != nil {
		return err
	}
	options := []string{nodejs.Require(required)}
	if a.gate != nil { // an older Node.js, which tells nothing, would not start with the option
		imported, err := nodejs.Write(place, "gate.mjs", gateScript)
		if err != nil {
			return err
		}
		options = append(options, nodejs.Import(imported))
	}
	order := struct {
		Options []string `json:"options"`
		List    string   `json:"list"`
		Entry   string   `json:"entry"`
		Key     string   `json:"key"`
		Files   string   `json:"files,omitempty"`
		Learn   bool     `json:"learn,omitempty"`
		Report  int      `json:"report,omitempty"`
		Gate    int      `json:"gate,omitempty"`
		After   []int64  `json:"after"`
	}{
		Options: options,
		List:    filepath.Join(a.directory, listFile), Entry: a.program.entry, Key: a.key, Files: a.files, Learn: a.gate == nil, After: []int64{settled.Milliseconds(), moreSettled * settled.Milliseconds()},
	}
	if a.gate != nil {
		order.Report, order.Gate = first, first+1
	}
	encoded, err := json.Marshal(order)
	if err != nil {
		return fmt.Errorf("describe what is to be loaded ahead: %w", err)
	}
	a.env = []string{nodejs.Options(environ, options...), "GATEWAY_PREWARM=" + string(encoded)}
	return nil
}

// Env is added to the process's environment.
func (a *Ahead) Env() []string { return a.env }

// Files are descriptors of the process; none of one that learns.
func (a *Ahead) Files() []*os.File {
	if a.gate == nil {
		return nil
	}
	return []*os.File{a.writer, a.waiter}
}

// List is what it loads.
func (a *Ahead) List() List { return a.list }

// Key tells its program from any other.
func (a *Ahead) Key() string { return a.key }

// Started is called when the process has the files.
func (a *Ahead) Started() { _, _ = a.writer.Close(), a.waiter.Close() }

// Next waits for the next report. It returns io.EOF when nobody can report any more; any other error is about one report.
func (a *Ahead) Next() (Report, error) {
	if a.lines == nil {
		return Report{}, io.EOF // it learns
	}
	line, err := a.lines.ReadSlice('\n')
	for errors.Is(err, bufio.ErrBufferFull) {
		line, err = a.lines.ReadSlice('\n')
	}
	if err != nil {
		return Report{}, io.EOF
	}
	var report Report
	if err := json.Unmarshal(line, &report); err != nil {
		return Report{}, fmt.Errorf("read what was loaded ahead: %w", err)
	}
	return report, nil
}

// Unchanged returns an error where what the process has loaded is not what would be loaded now. The environment is not looked
// at again: it is the process's own.
func (a *Ahead) Unchanged() error {
	key, err := a.program.Key()
	if err != nil {
		return err
	}
	files, err := a.list.Files()
	if err != nil {
		return err
	}
	if key != a.key || files != a.files {
		return errors.New("the program has changed meanwhile")
	}
	return nil
}

// Release lets the program begin.
func (a *Ahead) Release() error {
	_, err := a.gate.Write([]byte{0})
	return err
}

// Forget removes the list.
func (a *Ahead) Forget() error { return Forget(a.directory) }

// Close gives up what was made: a process that still waits ends.
func (a *Ahead) Close() error {
	_, _, _, _ = a.writer.Close(), a.waiter.Close(), a.gate.Close(), a.reader.Close()
	return nil
}
