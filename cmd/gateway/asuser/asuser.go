package asuser

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"
)

// What is read of a child. A value is counted by the comma before it: each may need hundreds of bytes when it is decoded.
const (
	mostBytes  = 1 << 20
	mostCommas = 20_000
	mostStderr = 4 << 10
)

// children are those that there are: each may need as much memory as its question allows, and a machine can have hundreds of
// users.
var children = make(chan struct{}, 8)

// Question is what root can have answered about a user.
type Question[Q, A any] struct {
	Name  string // a word
	Limit time.Duration
	// Memory is how many bytes the child may map beyond what the runtime has at its start, which is 72 MiB, 64 of heap among
	// them (RLIMIT_DATA, measured with Go 1.26). The runtime maps its heap in pieces of 64 MiB (heapArenaBytes).
	Memory uint64
	// Written is how many bytes a file may have that the child writes (RLIMIT_FSIZE); 0: it writes none.
	Written uint64
}

// Answer is called by an init function, with what answers the question as that user. In a child that has been asked this
// question it does not return.
func (q Question[Q, A]) Answer(function func(context.Context, Q) (A, error)) {
	if asked == q.Name && q.Name != "" {
		answer(function)
	}
}

// Ask has the question answered by a child with that uid and those gids. The answer is that user's word: it has
// the right shape and a bounded size, and nothing else is certain. It takes root, and CAP_SYS_ADMIN for the PID namespace.
// After the limit, the context's end or more than 1 MiB the child is killed.
func (q Question[Q, A]) Ask(ctx context.Context, credential *syscall.Credential, question Q) (A, error) {
	var answer A
	select {
	case children <- struct{}{}:
		defer func() { <-children }()
	case <-ctx.Done():
		return answer, ctx.Err()
	}
	limit := waiting.limit(credential.Uid, q.Limit)
	output, took, err := ask(ctx, limit, credential, []string{q.Name, limit.String(), fmt.Sprint(q.Memory), fmt.Sprint(q.Written)}, question)
	waiting.took(credential.Uid, took, limit)
	if err != nil {
		return answer, fmt.Errorf("ask as uid %d: %w", credential.Uid, err)
	}
	var said reply
	if err := decode(output, &said); err != nil {
		return answer, fmt.Errorf("ask as uid %d: %w", credential.Uid, err)
	}
	if said.Error != "" {
		return answer, errors.New(oneLine(said.Error))
	}
	if err := decode(said.Answer, &answer); err != nil {
		return answer, fmt.Errorf("ask as uid %d: %w", credential.Uid, err)
	}
	return answer, nil
}

// oneLine has an error of the child's become a part of root's sentences: it can end no line, and begin none of its own. What is not
// printable is a space. As root's sentences elsewhere (say.Line), but nothing of ours may run in the child before it is that user.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
}

// decode is strict: nothing unknown, nothing behind it, nothing that becomes much larger than it is.
func decode(text []byte, into any) error {
	if bytes.Count(text, []byte(",")) > mostCommas {
		return fmt.Errorf("the answer has more than %d values", mostCommas)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("the answer is none: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the answer")
	}
	return nil
}

var (
	errSilent   = errors.New("no answer in time")
	errTooLarge = errors.New("the answer is larger than 1 MiB")
	errTooMuch  = errors.New("what is there takes more memory than it may")
)

// startLimit is how long a child may take until it becomes the user. That is nobody's doing but a busy machine's, on which what
// follows takes longer too: so the user has as much time again besides their own.
const startLimit = 5 * time.Second

// ask starts the child and returns what it has written, when it has ended, and how long the user took.
func ask(ctx context.Context, limit time.Duration, credential *syscall.Credential, arguments []string, question any) (answer []byte, took time.Duration, err error) {
	input, err := json.Marshal(question)
	if err != nil {
		return nil, 0, err
	}
	// Descriptors of this process that a careless parent has left open are not for the child: those of Go's own are closed by
	// execve(2) already.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, 0, fmt.Errorf("close_range: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(startLimit, func() { cancel(errSilent) })
	defer timer.Stop()
	start, began := time.Now(), make(chan time.Duration, 1)

	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	gids := []string{fmt.Sprint(credential.Gid)}
	for _, gid := range credential.Groups {
		gids = append(gids, fmt.Sprint(gid))
	}
	cmd.Args = append([]string{"gateway", role, fmt.Sprint(credential.Uid), strings.Join(gids, ",")}, arguments...)
	cmd.Env, cmd.Dir = []string{}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID}
	// Whoever got hold of an end of a pipe, and keeps it, keeps nobody waiting.
	cmd.WaitDelay = time.Second
	output := &bounded{most: mostBytes, full: func() { cancel(errTooLarge) }, first: func() {
		machines := time.Since(start)
		timer.Reset(limit + machines)
		began <- machines
	}}
	said := &bounded{most: mostStderr, full: func() {}, first: func() {}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), output, said
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		select {
		case err = <-ended:
		case <-time.After(2 * cmd.WaitDelay):
			// Not even SIGKILL ends one that waits for an answer of a file system that is its user's own (FUSE).
		}
	}
	select {
	case machines := <-began:
		took = time.Since(start) - 2*machines
	default: // it has not become the user
	}
	if cause := context.Cause(ctx); cause != nil {
		return nil, took, cause
	}
	if err != nil {
		if strings.Contains(string(said.kept), "out of memory") {
			return nil, took, errTooMuch
		}
		why, _, _ := strings.Cut(string(said.kept), "\n")
		return nil, took, fmt.Errorf("%w: %q", err, why)
	}
	return output.kept, took, nil
}

// bounded keeps what is written, up to a size, and says when it begins and when there is more.
type bounded struct {
	kept        []byte
	most        int
	first, full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.kept) == 0 {
		b.first()
	}
	fits := min(len(p), b.most-len(b.kept))
	if fits < len(p) {
		b.full()
	}
	b.kept = append(b.kept, p[:fits]...)
	return len(p), nil
}

// patience is how long this process waits for users. After each that has kept it waiting the next one has half the time, and
// so has a user for each time: however many there are, all of them together cost little more than twice what one does, and one
// alone takes no more than half of the others' time.
type patience struct {
	mu   sync.Mutex
	slow map[uint32]int // how often a user was
	last time.Time      // when
}

var waiting patience

const forgiven = 30 * time.Second

// limit returns how long a user may take.
func (p *patience) limit(uid uint32, full time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.last) > forgiven {
		p.slow = nil
	}
	halved := max(p.slow[uid]-1, 0) + len(p.slow)
	return full >> min(halved, 6)
}

// took takes note of how long a user took who had that limit.
func (p *patience) took(uid uint32, d, limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d <= limit/4 {
		return
	}
	if p.slow == nil {
		p.slow = map[uint32]int{}
	}
	p.slow[uid]++
	p.last = time.Now()
}
