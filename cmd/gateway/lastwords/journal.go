package lastwords

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/lazy"
	"openclaw-gateway/units"
)

const (
	most    = 10      // lines
	looked  = 100     // lines among which they are looked for
	longest = 500     // bytes of one of them that are shown
	limit   = 4 << 20 // bytes of an answer: journald itself cuts a line after 48 KiB (LineMax= of journald.conf(5))
	// A question takes some 10 ms where the journal is small.
	timeout = 3 * time.Second
	// late is how long after the end of a process journald may have got its last line; a pid is not given again that soon.
	late = 2 * time.Second
)

// Ask is for a launcher as it is seen from outside.
func Ask(t client.Target) Journal {
	j := Journal{Scope: t.Scope, UID: t.UID, Cgroup: t.Cgroup, Unit: t.Service(), Target: t}
	if j.UID == 0 {
		j.UID = os.Geteuid()
	}
	return j
}

// Journal is where the output of a launcher's workers goes.
type Journal struct {
	Scope  units.Scope
	UID    int    // whose scope, where it is a user's
	Cgroup string // of the unit; "" where that is not known
	Unit   string
	Target client.Target // of that launcher
}

// Life is a generation whose last words are looked for.
type Life struct {
	Generation, PID int
	From, Until     time.Time // Until is zero while it lives
}

// Why nothing was found.
var (
	errUnreadable = errors.New("the journal cannot be read by this user")
	errGone       = errors.New("the journal does not reach back to it: that part was rotated away, or is not kept")
)

// Of returns the last lines of a generation, the oldest first, in a printable form and without what looks like secrets; none
// for one that has said nothing. An error is a sentence about why that is not known.
//
// A process that ends at once may be gone when journald looks for its control group. So the lines of the generation's cgroup
// are taken, and those of its main process, which are marked with the unit in the system's scope and with the user in a user's.
func (j Journal) Of(ctx context.Context, life Life) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	owner := "_SYSTEMD_UNIT=" + j.Unit
	if j.Scope == units.User {
		owner = "_UID=" + strconv.Itoa(j.UID)
	}
	var matches []string
	if j.Cgroup != "" {
		matches = []string{fmt.Sprintf("_SYSTEMD_CGROUP=%s/generation-%d", j.Cgroup, life.Generation)}
		if j.Scope == units.User {
			matches = append(matches, owner)
		}
	}
	if life.PID > 0 {
		if len(matches) > 0 {
			matches = append(matches, "+")
		}
		matches = append(matches, fmt.Sprintf("_PID=%d", life.PID), owner)
	}
	if len(matches) == 0 {
		return nil, nil // it never ran
	}
	words, err := query(ctx, life, looked, matches)
	if errors.Is(err, errUnreadable) && j.Target.Scope != "" {
		err = fmt.Errorf("%w: `%s` reads it", err, j.Target.Logs())
	}
	if err != nil || len(words) > 0 {
		return tail(words), err
	}
	// The launcher has said something then, at least that it has started the worker.
	matches = []string{"_SYSTEMD_UNIT=" + j.Unit}
	if j.Scope == units.User {
		matches = []string{"_SYSTEMD_USER_UNIT=" + j.Unit, owner}
	}
	kept, err := query(ctx, life, 1, matches)
	if err == nil && len(kept) == 0 {
		err = errGone
	}
	return []string{}, err
}

// query asks journalctl for the last lines within the time of a generation.
func query(ctx context.Context, life Life, lines int, matches []string) ([]string, error) {
	// In reverse: journalctl up to 252 takes the first lines of a time, and not the last.
	arguments := []string{
		"--quiet", "--no-pager", "--all", "--reverse", "--output=json", "--output-fields=MESSAGE", "--lines=" + strconv.Itoa(lines),
		"--since=" + moment(life.From.Add(-time.Second)),
	}
	if !life.Until.IsZero() {
		arguments = append(arguments, "--until="+moment(life.Until.Add(late)))
	}
	command := journalctl(ctx, append(arguments, matches...)...)
	var complaint bytes.Buffer
	command.Stderr = &bounded{&complaint, 4 << 10}
	output, err := command.StdoutPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("ask the journal: %w", err)
	}
	words, err := decode(io.LimitReader(output, limit))
	_, _ = io.Copy(io.Discard, output)
	ended := command.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("the journal has not answered within %s", timeout)
	case strings.Contains(complaint.String(), "insufficient permissions"):
		return nil, errUnreadable
	case strings.Contains(complaint.String(), "No journal files were found"):
		return nil, errGone
	case ended != nil:
		return nil, fmt.Errorf("journalctl: %w: %s", ended, say.Printable(strings.TrimSpace(complaint.String())))
	case err != nil && len(words) < most: // the last come first, and what is too long was cut off behind them
		return nil, fmt.Errorf("the answer of journalctl is not understood: %w", err)
	}
	slices.Reverse(words)
	return words, nil
}

// frame is a line of a stack trace that says where and not why: of Node.js and Java, of Ruby, and of Go, which has the function in
// a line of its own above.
var (
	frame   = lazy.Regexp(`^(\s|\\t)+(at |from |\.\.\. \d+ more)`)
	goFrame = lazy.Regexp(`^(\s|\\t)+/\S+:\d+( \+0x[0-9a-f]+)?$`)
)

// tail returns the last lines. A stack trace is above its end what it is about, so where all lines are too many, those without a
// word go first, and of each row of frames all but the first.
func tail(lines []string) []string {
	if len(lines) <= most {
		return lines
	}
	var kept []string
	row := false // the last one kept is a frame
	for _, line := range lines {
		switch {
		case strings.TrimSpace(line) == "":
			continue
		case goFrame().MatchString(line) && row:
			kept = kept[:len(kept)-1] // the function's
			continue
		case frame().MatchString(line) && row:
			continue
		}
		kept = append(kept, line)
		row = frame().MatchString(line) || goFrame().MatchString(line) || row && goFunction(line)
	}
	return kept[max(0, len(kept)-most):]
}

// goFunction reports whether a line can be that of a function above its frame.
func goFunction(line string) bool {
	return strings.HasSuffix(line, ")") && strings.Contains(line, ".") || strings.HasPrefix(line, "created by ")
}

func journalctl(ctx context.Context, arguments ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "journalctl", arguments...)
	command.Env = []string{"LC_ALL=C.UTF-8"} // its complaints are read
	command.WaitDelay = time.Second
	return command
}

// moment is a time as journalctl takes it, systemd.time(7).
func moment(t time.Time) string { return fmt.Sprintf("@%d.%06d", t.Unix(), t.Nanosecond()/1000) }

// decode reads what was logged from lines of JSON.
func decode(lines io.Reader) (words []string, err error) {
	words = []string{}
	for decoder := json.NewDecoder(lines); ; {
		var entry struct {
			Message any `json:"MESSAGE"`
		}
		if err := decoder.Decode(&entry); errors.Is(err, io.EOF) {
			return words, nil
		} else if err != nil {
			return words, err
		}
		words = append(words, shown(entry.Message))
	}
}

// shown is a line as it may be shown. What is no text is an array of its bytes (systemd.journal-fields(7), JSON format).
func shown(message any) string {
	var text string
	switch message := message.(type) {
	case string:
		text = message
	case []any:
		var bytes []byte
		for _, b := range message {
			if b, ok := b.(float64); ok {
				bytes = append(bytes, byte(b))
			}
		}
		text = string(bytes)
	}
	// Of what is cut off nothing may be left by which a secret is not known for one any more.
	return say.Cut(say.Printable(say.Masked(say.Cut(text, 8*longest))), longest)
}

// bounded takes so many bytes and lets the rest fall.
type bounded struct {
	to   io.Writer
	left int
}

func (b *bounded) Write(text []byte) (int, error) {
	n := min(len(text), b.left)
	b.left -= n
	_, err := b.to.Write(text[:n])
	return len(text), err
}
