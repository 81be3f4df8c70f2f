// Package upgrade is how the launcher becomes the program that is installed now, in place: which that is, what it is told of what the
// one before has, and whether it can take that.
package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/peer"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/passed"
)

// Variable is set in the environment of the program that the launcher becomes, to the number of the descriptor that has what it is told.
const Variable = "GATEWAY_UPGRADE"

// Command is the argument with which a program says whether it can take what comes on its standard input.
const Command = "can-upgrade"

// format counts the forms of what is told. A program takes what it has been told in its own form, or in an earlier one that it knows.
const format = 1

// told is what one program tells the next.
type told struct {
	Format  int             `json:"format"`
	Version string          `json:"version"` // of the one that tells
	State   json.RawMessage `json:"state"`
}

// most is how many bytes are told: several configurations, and the history.
const most = 64 << 20

// Program is the one that is installed now.
type Program struct {
	Path string
	info fs.FileInfo // what was found there
}

// Installed returns the program with which the launcher was started, as it is installed now. Whoever could write there
// would run what he likes with the launcher's rights: so it has to be root's, or the launcher's own user's, as all that leads to it.
func Installed() (Program, error) {
	path := os.Args[0]
	if !filepath.IsAbs(path) {
		var err error
		if path, err = os.Executable(); err != nil {
			return Program{}, fmt.Errorf("find the program: %w", err)
		}
	}
	return find(path, int(peer.Root()), os.Geteuid())
}

// Unchanged fails where another program has been installed meanwhile, which nobody has asked.
func (p Program) Unchanged() error {
	now, err := Installed()
	if err == nil && !p.same(now) {
		err = fmt.Errorf("%s has been replaced meanwhile: run the command again", p.Path)
	}
	return err
}

func (p Program) same(other Program) bool {
	return os.SameFile(p.info, other.info) && p.info.Size() == other.info.Size() && p.info.ModTime().Equal(other.info.ModTime())
}

// find fails where another user than these could put another program at a path.
func find(path string, uids ...int) (Program, error) {
	err := read.OnlyOf(path, uids...)
	if others, is := errors.AsType[*read.OthersError](err); is {
		return Program{}, fmt.Errorf("%s is not executed: %s %s", path, others.At, others.Why)
	}
	if err != nil {
		return Program{}, fmt.Errorf("find the program that is installed now: %w", err)
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no program", path)
	}
	return Program{Path: path, info: info}, err
}

// Encode is what the next program is told.
func Encode(state any) ([]byte, error) {
	content, err := json.Marshal(state)
	if err == nil {
		content, err = json.Marshal(told{Format: format, Version: api.ProgramVersion(), State: content})
	}
	if err == nil && len(content) > most {
		err = fmt.Errorf("what there is to be told has %d bytes", len(content))
	}
	return content, err
}

// Decode takes what an earlier program has told, and returns which version that was.
func Decode(content []byte, to any) (version string, err error) {
	var t told
	if err := json.Unmarshal(content, &t); err != nil {
		return "", fmt.Errorf("it is not understood: %w", err)
	}
	switch {
	case t.Format != format:
		return t.Version, fmt.Errorf("version %s understands what is told in form %d, and version %s tells form %d", api.ProgramVersion(), format, t.Version, t.Format)
	case state.IsLater(t.Version):
		return t.Version, fmt.Errorf("version %s is older than %s, which runs", api.ProgramVersion(), t.Version)
	}
	if err := json.Unmarshal(t.State, to); err != nil {
		return t.Version, fmt.Errorf("it is not understood: %w", err)
	}
	return t.Version, nil
}

// tryLimit is how long the installed program may take to say whether it can take what there is.
const tryLimit = 10 * time.Second

// Try asks the program whether it can take what there is. run runs a command until all of it has ended.
func Try(ctx context.Context, program string, content []byte, run func(context.Context, *exec.Cmd) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, tryLimit, fmt.Errorf("it has not said so in %s", tryLimit))
	defer cancel()
	var says bytes.Buffer
	cmd := exec.Command(program, Command)
	cmd.Dir, cmd.Stdin, cmd.Stderr = "/", bytes.NewReader(content), &limited{&says, 4 << 10}
	err := run(ctx, cmd)
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(strings.TrimPrefix(says.String(), "gateway: ")); text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return fmt.Errorf("%s cannot go on with what runs, and so nothing has changed: %w", program, err)
}

// limited takes the beginning of what is written.
type limited struct {
	to   io.Writer
	left int
}

func (l *limited) Write(text []byte) (int, error) {
	part := text[:min(len(text), l.left)]
	l.left -= len(part)
	_, err := l.to.Write(part)
	return len(text), err
}

// Leave has the next program find what it is told, and returns the environment in which it has to be executed.
func Leave(content []byte, files *passed.Files) (environ []string, left *os.File, err error) {
	fd, err := unix.MemfdCreate("gateway-upgrade", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, os.NewSyscallError("memfd_create", err)
	}
	left = os.NewFile(uintptr(fd), "gateway-upgrade")
	_, err = left.Write(content)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL)
	}
	if err == nil {
		_, err = files.Add(left)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("leave what the next program is told: %w", err), left.Close())
	}
	return append(os.Environ(), Variable+"="+strconv.Itoa(fd)), left, nil
}

// Find returns what an earlier program of this process has left; nil where this one is the first.
func Find() ([]byte, error) {
	number, set := os.LookupEnv(Variable)
	if !set {
		return nil, nil
	}
	_ = os.Unsetenv(Variable) // it is nobody's below
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%s: only the launcher sets this variable", Variable, number)
	}
	if seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return nil, fmt.Errorf("%s=%s: only the launcher sets this variable", Variable, number)
	}
	left, err := passed.Take(fd, "gateway-upgrade")
	if err != nil {
		return nil, err
	}
	defer left.Close()
	content, err := io.ReadAll(io.NewSectionReader(left, 0, most))
	if err != nil {
		return nil, fmt.Errorf("take over from the program before: %w", err)
	}
	return content, nil
}
