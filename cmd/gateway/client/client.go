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
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// ErrNotRunning says that there is no launcher where it was asked for.
var ErrNotRunning = errors.New("the launcher is not running")

// ErrNowhere says that there is not even a unit.
var ErrNowhere = fmt.Errorf("%w: there is no openclaw-gateway.service in system or user scope, and no launcher run by hand: "+
	"\"gateway install --help\" says how to install one, \"gateway run\" runs it by hand", ErrNotRunning)

// ErrSilent says that there is a launcher, which does not answer in time.
var ErrSilent = errors.New("the launcher does not answer")

// ErrForbidden says that the control socket is not for this user.
var ErrForbidden = errors.New("only the launcher's own user and root may ask it")

// AnswerLimit is how long a question that the launcher answers from memory may
// take. It hangs if it needs longer.
const AnswerLimit = 2 * time.Second

// CheckLimit is the same for what an edit would do, for which it asks systemd.
const CheckLimit = 10 * time.Second

// ManagerLimit is the same for the service manager.
const ManagerLimit = 10 * time.Second

// Target is one scope in which there may be a launcher.
type Target struct {
	Scope   units.Scope
	Control string // path of the control socket
	Unit    api.Unit
	// Installed says that the manager knows the unit.
	Installed   bool
	SocketState string // ActiveState of the socket unit
	// Unasked says why the manager, which is there, did not tell any of this.
	Unasked error
	// Listen is what the socket unit listens on.
	Listen []netip.AddrPort
	// Says is the service's STATUS=, the launcher's last words.
	Says string
	// Ended says how the launcher ended that systemd is about to start again; ""
	// where it is about to do nothing of the kind.
	Ended string
}

// Choice is which scopes are meant; without any, those in which there is something.
type Choice struct{ System, User bool }

// Targets returns the scopes that were asked for; without a flag, those in which
// there is a unit or a launcher, or whose manager does not say.
func (f Choice) Targets(ctx context.Context) []Target {
	switch {
	case f.System:
		return []Target{NewTarget(ctx, units.System)}
	case f.User:
		return []Target{NewTarget(ctx, units.User)}
	}
	both := make([]Target, 2)
	var asking sync.WaitGroup
	for i, scope := range []units.Scope{units.System, units.User} {
		asking.Go(func() { both[i] = NewTarget(ctx, scope) })
	}
	asking.Wait()
	var found []Target
	for _, t := range both {
		if t.Installed || t.Unasked != nil || t.Answers() {
			found = append(found, t)
		}
	}
	return found
}

// One returns the only target; verbs refuse to choose between two launchers.
func (f Choice) One(ctx context.Context) (Target, error) {
	found := f.Targets(ctx)
	switch len(found) {
	case 0:
		return Target{}, ErrNowhere
	case 1:
		return found[0], nil
	default:
		for _, t := range found {
			if t.Unasked != nil {
				return Target{}, fmt.Errorf("there may be a launcher in both scopes: say which with --system or --user (%w)", t.Unasked)
			}
		}
		return Target{}, errors.New("there is a launcher in system scope and one in this user's scope: say which with --system or --user")
	}
}

// NewTarget asks the manager of a scope what there is.
func NewTarget(ctx context.Context, scope units.Scope) Target {
	t := Target{Scope: scope, Control: api.Control(scope == units.User)}
	t.Unit = api.Unit{Name: units.Service, Scope: string(scope)}
	ctx, cancel := context.WithTimeout(ctx, ManagerLimit)
	defer cancel()
	found, err := systemd.Of(scope).Show(ctx, []string{units.Service, units.Socket},
		"LoadState", "ActiveState", "SubState", "MainPID", "StatusText", "NRestarts", "ExecMainCode", "ExecMainStatus", "Listen")
	if err == nil && len(found) != 2 {
		err = fmt.Errorf("systemctl show: %d answers instead of 2", len(found))
	}
	if err != nil {
		if hasManager(scope) {
			t.Unasked = fmt.Errorf("the manager of the %s scope does not answer: %w", scope, err)
		}
		return t
	}
	service, socket := found[0], found[1]
	t.Installed = service["LoadState"] == "loaded"
	t.Unit.ActiveState, t.Unit.MainPID = service["ActiveState"], service.Int("MainPID")
	t.Says = service["StatusText"]
	if strings.HasPrefix(service["SubState"], "auto-restart") {
		t.Ended = endOf(service)
	}
	t.SocketState, t.Listen = socket["ActiveState"], socket.Listen()
	return t
}

// hasManager reports whether the scope has a manager that this user can ask: not on
// a machine without systemd (sd_booted(3)), for a user who has not logged in, or for
// an ordinary user on a machine without D-Bus.
func hasManager(scope units.Scope) bool {
	if scope == units.User {
		_, err := systemd.Of(scope).PID()
		return err == nil || errors.Is(err, syscall.EAGAIN) // its queue is full
	}
	if os.Geteuid() != 0 {
		if _, err := os.Stat("/run/dbus/system_bus_socket"); err != nil {
			return false
		}
	}
	_, err := exec.LookPath("systemctl")
	return err == nil && systemd.Booted()
}

// endOf says how a service's main process ended, and how often systemd has
// started it again already. ExecMainCode is the si_code of waitid(2).
func endOf(service systemd.Properties) string {
	how := fmt.Sprintf("exit status %d", service.Int("ExecMainStatus"))
	if service.Int("ExecMainCode") != cldExited {
		how = say.Signal(unix.Signal(service.Int("ExecMainStatus")))
	}
	return fmt.Sprintf("%s (restarts so far: %d)", how, service.Int("NRestarts"))
}

// cldExited is CLD_EXITED of waitid(2): the process ended by itself.
const cldExited = 1

// Answers reports whether a launcher listens on the control socket, or whether
// that cannot be seen because it is somebody else's.
func (t Target) Answers() bool {
	conn, err := net.Dial("unix", t.Control)
	if err != nil {
		// EAGAIN: one that hangs, and whose queue is full.
		return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EAGAIN)
	}
	_ = conn.Close()
	return true
}

// Ask is call for what the launcher answers at once.
func (t Target) Ask(ctx context.Context, path string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerLimit)
	defer cancel()
	return t.Call(ctx, http.MethodGet, path, nil, result)
}

// Status asks the launcher for what it knows by heart: one that hangs shows itself
// before it is asked for something that may take long.
func (t Target) Status(ctx context.Context) (api.Status, error) {
	var s api.Status
	err := t.Ask(ctx, api.StatusPath, &s)
	return s, err
}

// Call sends a request to the launcher, with a question as JSON unless that is
// nil, and decodes its answer.
func (t Target) Call(ctx context.Context, method, path string, question, result any) error {
	response, err := t.send(ctx, method, path, question)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return t.Unanswered(fmt.Errorf("read the launcher's answer, which another version may give otherwise: %w", err))
	}
	return nil
}

// Unanswered says what an error of the connection means.
func (t Target) Unanswered(err error) error {
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the control socket %s is another user's (%w): run this as that user or with sudo", t.Control, ErrForbidden)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody answers on %s): %s", ErrNotRunning, t.Control, t.startHint())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w on %s in time", ErrSilent, t.Control)
	}
	return fmt.Errorf("ask the launcher: %w", err)
}

// send sends a request to the launcher and returns its answer, if that is good.
func (t Target) send(ctx context.Context, method, path string, question any) (*http.Response, error) {
	var body io.Reader
	if question != nil {
		encoded, err := json.Marshal(question)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	// A connection for each question: one that is kept would have to be closed.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.Control)
		},
	}}
	// The host is of no meaning on a local socket.
	request, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, t.Unanswered(err)
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		var failure api.Reply
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if json.Unmarshal(body, &failure) != nil || failure.Error == "" {
			failure.Error = fmt.Sprintf("the launcher answered with %s: perhaps it is of another version", response.Status)
		}
		if response.StatusCode == http.StatusForbidden {
			return nil, fmt.Errorf("%s: %w: run this as that user or with sudo", t.Control, ErrForbidden)
		}
		return nil, errors.New(failure.Error)
	}
	return response, nil
}

// startHint says how to get a launcher in this scope.
func (t Target) startHint() string {
	switch {
	case t.Unasked != nil:
		return t.Unasked.Error()
	case !t.Installed:
		return fmt.Sprintf("\"gateway install --%s\" writes its units, \"gateway run\" runs it by hand", t.Scope)
	case t.SocketState == "active":
		return "the next connection starts it"
	default:
		return fmt.Sprintf("%q opens the port", systemd.Of(t.Scope).Own("enable", "--now", units.Socket))
	}
}

// Stopping reports whether the manager is stopping the service.
func (t Target) Stopping(ctx context.Context) bool {
	service, err := systemd.Of(t.Scope).Unit(ctx, units.Service, "ActiveState")
	return err == nil && service["ActiveState"] == "deactivating"
}

// Stream passes on what the launcher tells of itself, until it ends or cannot be
// asked; the error says why.
func (t Target) Stream(ctx context.Context, told chan<- api.Status) error {
	response, err := t.send(ctx, http.MethodGet, "/watch", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	for lines := json.NewDecoder(response.Body); ; {
		var s api.Status
		if err := lines.Decode(&s); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				err = os.ErrNotExist // as if it had not been there
			}
			return t.Unanswered(err)
		}
		select {
		case told <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Refreshed asks the service manager again.
func (t Target) Refreshed(ctx context.Context) Target {
	if t.Unit.Scope == "none" {
		return t
	}
	return NewTarget(ctx, t.Scope)
}
