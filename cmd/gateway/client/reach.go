package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/peer"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// ErrStranger says that what is where a launcher is asked may be somebody else's. Nothing was said to it.
var ErrStranger = errors.New("what is there may be somebody else's, so nothing was said to it")

// ErrReplaced says that another process than the launcher of the system's service listens on the control socket. Nothing was said
// to it.
var ErrReplaced = errors.New("nothing was said to it")

// Launcher is a connection to a launcher, for one question.
type Launcher struct {
	target Target
	conn   net.Conn
	// PID and UID are of the process that has made the control socket, as the kernel says it: what an answer says may be made
	// up. The PID is 0 for one that cannot be seen from here, in another PID namespace.
	PID, UID int
}

// Reach connects to the control socket, and proves before a byte is sent that its directory, and whoever listens there, is of
// the user whose launcher is meant. The error is one of this package's, with the way out.
func (t Target) Reach(ctx context.Context) (*Launcher, error) {
	// To look at a directory takes as long as its user's file system wants (FUSE), whatever the context says.
	ctx, cancel := context.WithTimeout(ctx, AnswerLimit)
	defer cancel()
	type reached struct {
		l   *Launcher
		err error
	}
	looked := make(chan reached, 1)
	go func() {
		l, err := t.reach(ctx, t.Control)
		if t.Scope == units.System && errors.Is(err, os.ErrNotExist) {
			// Elsewhere there is none, or perhaps one that nobody but its user can see.
			if spare, spareErr := t.reach(ctx, api.SpareControl(t.Instance)); spareErr == nil {
				l, err = spare, nil
			}
		}
		if errors.Is(err, ErrReplaced) { // or the launcher was between two lives: the socket then is the last one's no more
			l, err = t.reach(ctx, t.Control)
		}
		looked <- reached{l, err}
	}()
	select {
	case r := <-looked:
		if r.err != nil {
			return nil, t.Unanswered(r.err)
		}
		return r.l, nil
	case <-ctx.Done():
		return nil, t.Unanswered(ctx.Err())
	}
}

func (t Target) reach(ctx context.Context, path string) (*Launcher, error) {
	directory := filepath.Dir(path)
	dir, err := openPath(unix.AT_FDCWD, directory, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%s is a link or no directory: %w", directory, ErrStranger)
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	info, err := dir.Stat()
	if err != nil {
		return nil, err
	}
	// Nobody but root can make one in /run. The unit of the system may name any user, for whom systemd makes it.
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if t.Scope != units.System {
		owner = t.user()
	}
	if !api.Private(info, owner) {
		return nil, fmt.Errorf("%s is not a directory that only user %s can write to (%s, of user %s): %w; with XDG_RUNTIME_DIR set to a "+
			"directory of their own, both the launcher and those who ask it are there", directory, systemd.UserName(owner), info.Mode(),
			systemd.UserName(int(info.Sys().(*syscall.Stat_t).Uid)), ErrStranger)
	}
	// By its inode, which nobody can exchange after this look: not by its name, which may be that of a link.
	socket, err := openPath(int(dir.Fd()), filepath.Base(path), 0)
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	if info, err := socket.Stat(); err != nil || info.Mode()&os.ModeSocket == 0 {
		return nil, errors.Join(err, fmt.Errorf("%s is no socket: %w", path, ErrStranger))
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", fmt.Sprintf("/proc/self/fd/%d", socket.Fd()))
	if err != nil {
		return nil, err
	}
	made, err := peer.Of(conn)
	if err == nil {
		err = t.trusts(made, owner)
	}
	if err == nil {
		err = t.Replaced(ctx, int(made.Pid), int(made.Uid))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Launcher{target: t, conn: conn, PID: int(made.Pid), UID: int(made.Uid)}, nil
}

// openPath opens what a name in a directory stands for, a link as the link: to be looked at, and to be reached through.
func openPath(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// trusts fails unless whoever has made the control socket is the owner of its directory, or root, and the caller somebody
// whom a launcher answers.
func (t Target) trusts(made *unix.Ucred, owner int) error {
	if uid := int(made.Uid); uid != owner && uid != 0 {
		return fmt.Errorf("a process of user %s listens on %s, pid %d, and not one of user %s: %w",
			systemd.UserName(uid), t.Control, made.Pid, systemd.UserName(owner), ErrStranger)
	}
	if me := os.Geteuid(); me != 0 && me != int(made.Uid) {
		return unix.EACCES
	}
	return nil
}

// Replaced fails with [ErrReplaced] if a process that has made the control socket of a service of the system is not the launcher, as
// the manager says: the service's user, and so its worker, can put another socket there, that answers what it likes when it likes.
// Root's may be one that was started by hand. Nobody can tell of a process that cannot be seen from here, nor without the manager.
func (t Target) Replaced(ctx context.Context, pid, uid int) error {
	is := func(main int) bool {
		// A program in front of the launcher has it below.
		return pid == main || main > 0 && !dropins.RunsLauncher(t.Runs) && proctree.Descends(pid, main)
	}
	if t.Scope != units.System || !t.Installed || uid == 0 || pid <= 0 || is(t.Unit.MainPID) {
		return nil
	}
	// It may have been started again since.
	service, err := t.Manager().Unit(ctx, t.Service(), "MainPID")
	if err != nil || is(service.Int("MainPID")) {
		return nil
	}
	return fmt.Errorf("a process of user %s, pid %d, has replaced the control socket of %s, and is not its main process: `%s` makes that anew: %w",
		systemd.UserName(uid), pid, t.Service(), t.Manager().Command(os.Geteuid(), "restart", t.Service()), ErrReplaced)
}

// user is whose launcher is meant in a user's scope.
func (t Target) user() int {
	if t.UID != 0 {
		return t.UID
	}
	return os.Geteuid()
}

// Close ends the connection.
func (l *Launcher) Close() { _ = l.conn.Close() }

// Status asks for what the launcher knows by heart.
func (l *Launcher) Status(ctx context.Context) (api.Status, error) {
	var s api.Status
	err := l.call(ctx, http.MethodGet, api.StatusPath+api.StatusQuery, nil, &s)
	if err == nil {
		err = l.verify(&s)
	}
	if err != nil {
		return api.Status{}, l.target.Unanswered(err)
	}
	return s, nil
}

// verify has the kernel's word stand for the launcher's own where there is one, and refuses what no launcher would say.
func (l *Launcher) verify(s *api.Status) error {
	if len(s.Sockets) > mostSockets {
		return fmt.Errorf("it names %d sockets, more than a launcher can have: %w", len(s.Sockets), errAnswer)
	}
	if s.Launcher.UID = l.UID; l.PID > 0 {
		s.Launcher.PID = l.PID
	}
	return nil
}

// An answer is no larger than any that a launcher gives: what comes may be made up, to exhaust whoever asks.
const (
	mostBytes   = 1 << 20
	mostString  = 64 << 10
	mostTokens  = 20_000 // names, values and brackets; a hundred generations are 3,000
	mostSockets = 256
	mostHeader  = 64 << 10
)

var errAnswer = errors.New("no answer of a launcher's, or one of another version")

// call sends a question, as JSON unless it is nil, and decodes the answer. Which may come late; once it has begun it must be
// there within AnswerLimit.
func (l *Launcher) call(ctx context.Context, method, path string, question, result any) error {
	begun := httptrace.ClientTrace{GotFirstResponseByte: func() { _ = l.conn.SetReadDeadline(time.Now().Add(AnswerLimit)) }}
	response, err := l.send(httptrace.WithClientTrace(ctx, &begun), method, path, question)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := read(response.Body)
	if err != nil {
		return err
	}
	return l.decode(answer, result)
}

// decode is [decode]; what another user's launcher says can begin no line of its own, whatever it becomes a part of, and names no
// command as ours are named.
func (l *Launcher) decode(answer []byte, result any) error {
	err := decode(answer, result)
	if err == nil && l.UID != os.Geteuid() {
		inLine(reflect.ValueOf(result))
	}
	return err
}

// inLine makes a line of each text in a value of this program's that was decoded.
func inLine(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(strings.ReplaceAll(say.Line(v.String()), "`", "'"))
		}
	case reflect.Pointer:
		inLine(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			inLine(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			inLine(v.Field(i))
		}
	default:
	}
}

// read takes an answer as a whole.
func read(body io.Reader) ([]byte, error) {
	answer, err := io.ReadAll(io.LimitReader(body, mostBytes+1))
	if err == nil && len(answer) > mostBytes {
		err = fmt.Errorf("more than %d bytes: %w", mostBytes, errAnswer)
	}
	return answer, err
}

// decode is json.Unmarshal for an answer: two bytes of it must not become a hundred in memory, again and again.
func decode(answer []byte, result any) error {
	tokens := json.NewDecoder(bytes.NewReader(answer))
	for n := 1; ; n++ {
		token, err := tokens.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errAnswer, err)
		}
		if text, is := token.(string); n > mostTokens || is && len(text) > mostString {
			return fmt.Errorf("longer than any: %w", errAnswer)
		}
	}
	if err := json.Unmarshal(answer, result); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// send sends a question and returns the answer, if that is good.
func (l *Launcher) send(ctx context.Context, method, path string, question any) (*http.Response, error) {
	var body io.Reader
	if question != nil {
		encoded, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	// The host is of no meaning on a local socket.
	request, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return nil, err
	}
	// Not an http.Client, which goes where it is sent.
	transport := http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return l.conn, nil },
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: mostHeader,
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var failure api.Reply
	answer, err := read(response.Body)
	switch {
	case err != nil:
		return nil, err
	case response.StatusCode == http.StatusForbidden:
		return nil, unix.EACCES
	case l.decode(answer, &failure) != nil || failure.Error == "":
		return nil, refusal(fmt.Sprintf("the launcher answered with %s: perhaps it is of another version", response.Status))
	case l.UID != os.Geteuid():
		return nil, refusal(fmt.Sprintf("the launcher of user %s says: %s", systemd.UserName(l.UID), failure.Error))
	}
	return nil, refusal(failure.Error)
}

// refusal is a launcher's own sentence.
type refusal string

func (r refusal) Error() string { return string(r) }
