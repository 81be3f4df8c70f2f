package client

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/dropins"
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
const CheckLimit = 3 * time.Second

// ManagerLimit is the same for the service manager.
const ManagerLimit = 10 * time.Second

// Target is one scope in which there may be a launcher.
type Target struct {
	Scope   units.Scope
	Control string // path of the control socket
	UID     int    // whose launcher is meant in a user's scope; 0: the caller's own
	Unit    api.Unit
	// Installed says that the manager knows the unit.
	Installed bool
	// Overrides are what drop-ins change in our units.
	Overrides   []dropins.Override
	SocketState string // ActiveState of the socket unit
	// Unasked says why the manager, which is there, did not tell any of this.
	Unasked error
	// Listen is what the socket unit listens on.
	Listen []netip.AddrPort
	// Cgroup is the service's control group.
	Cgroup string
	// Says is the service's STATUS=, the launcher's last words.
	Says string
	// Runs is the command line of the service.
	Runs []string
	// Ended says how the launcher ended that systemd is about to start again; ""
	// where it is about to do nothing of the kind.
	Ended string
	// Again is the same of one that systemd is starting again at the moment.
	Again string
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
		return Target{}, None(ctx)
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

// Others returns, for root who has chosen no scope, those of other users in which there is a unit: whom a launcher that was started by hand
// belongs to is a matter of its user's.
func (f Choice) Others(ctx context.Context) []Target {
	folders, _ := os.ReadDir("/run/user")
	if f.System || f.User || os.Geteuid() != 0 {
		return nil
	}
	all := make([]Target, len(folders))
	var asking sync.WaitGroup
	for i, folder := range folders {
		// That of a user who is nobody any more stays behind, as a rule.
		uid, err := strconv.Atoi(folder.Name())
		if err != nil || uid == 0 {
			continue
		}
		if _, err := systemd.Account(folder.Name()); err == nil {
			asking.Go(func() {
				t := Target{Scope: units.User, Control: api.ControlOf(uid), UID: uid}
				t.Unit.User = systemd.UserName(uid)
				all[i] = t.Refreshed(ctx)
			})
		}
	}
	asking.Wait()
	return slices.DeleteFunc(all, func(t Target) bool { return t.UID == 0 || !t.Installed })
}

// NewTarget asks the manager of a scope what there is.
func NewTarget(ctx context.Context, scope units.Scope) Target {
	return Target{Scope: scope, Control: api.Control(scope == units.User)}.Refreshed(ctx)
}

// Theirs reports whether it is another user's scope.
func (t Target) Theirs() bool { return t.UID != 0 && t.UID != os.Geteuid() }

// Manager is the service manager of the scope.
func (t Target) Manager() systemd.Manager {
	if t.Theirs() {
		return systemd.Manager{User: true, UID: t.UID}
	}
	return systemd.Of(t.Scope)
}

// Refreshed asks the service manager again.
func (t Target) Refreshed(ctx context.Context) Target {
	if t.Unit.Scope == "none" {
		return t
	}
	t = Target{Scope: t.Scope, Control: t.Control, UID: t.UID, Unit: api.Unit{Name: units.Service, Scope: string(t.Scope), User: t.Unit.User}}
	ctx, cancel := context.WithTimeout(ctx, ManagerLimit)
	defer cancel()
	found, err := t.Manager().Show(ctx, []string{units.Service, units.Socket},
		append([]string{"SubState", "MainPID", "StatusText", "NRestarts", "ExecMainCode", "ExecMainStatus", "Result", "ControlGroup"}, dropins.Properties...)...)
	if err == nil && len(found) != 2 {
		err = fmt.Errorf("%d answers instead of 2", len(found))
	}
	if err != nil {
		if !t.Theirs() && hasManager(t.Scope) {
			t.Unasked = fmt.Errorf("the manager of the %s scope does not answer: %w", t.Scope, err)
		}
		return t
	}
	service, socket := found[0], found[1]
	t.Installed = !slices.Contains([]string{"", "not-found", "masked"}, service["LoadState"])
	if !t.Theirs() { // it reads the drop-ins
		t.Overrides = dropins.In(found)
	}
	t.Unit.ActiveState, t.Unit.MainPID = service["ActiveState"], service.Int("MainPID")
	t.Says, t.Cgroup = service["StatusText"], service["ControlGroup"]
	t.Runs = service.List("ExecStart")
	switch {
	case strings.HasPrefix(service["SubState"], "auto-restart"):
		t.Ended = endOf(service)
	case service["ActiveState"] == "activating" && service.Int("NRestarts") > 0:
		t.Again = endOf(service)
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
	return systemd.Booted()
}

// endOf says how a service's main process ended, and how often systemd has
// started it again already. ExecMainCode is the si_code of waitid(2).
func endOf(service systemd.Properties) string {
	how, status := "has ended", service.Int("ExecMainStatus")
	switch service.Int("ExecMainCode") {
	case 0: // it runs, or systemd has not come as far as to start it
		if result := service["Result"]; result != "" && result != "success" {
			how = "has not started: " + cmp.Or(unstarted[result], result)
		}
	case cldExited:
		how = fmt.Sprintf("ended with exit status %d", status)
		if name := exitStatuses[status]; name != "" {
			how += " (" + name + ")"
		}
	default:
		how = "ended with " + say.Signal(unix.Signal(status))
	}
	return fmt.Sprintf("%s (restarts so far: %d)", how, service.Int("NRestarts"))
}

// unstarted says what systemd's results mean for a main process that has not been started.
var unstarted = map[string]string{
	"exit-code": "a command before it has failed (ExecStartPre=)", "signal": "a command before it was killed (ExecStartPre=)",
	"timeout":   "what comes before it took too long (ExecStartPre=, TimeoutStartSec=)",
	"resources": "something that its unit names is missing, such as a file of EnvironmentFile=",
}

// cldExited is CLD_EXITED of waitid(2): the process ended by itself.
const cldExited = 1

// exitStatuses says what systemd's own exit statuses mean, with which a process ends that it could not make the service
// (systemd.exec(5)).
var exitStatuses = map[int]string{
	200: "its working directory is not there", 203: "its program cannot be executed", 216: "its Group= is not there", 217: "its User= is not there",
	218: "it may not have its capabilities", 219: "it may not have its control group", 226: "its sandbox cannot be made",
	233: "its runtime directory cannot be made", 238: "its state directory cannot be made", 239: "its cache directory cannot be made",
}

// Answers reports whether a launcher listens on the control socket, or whether
// that cannot be seen because it is somebody else's.
func (t Target) Answers() bool {
	l, err := t.Reach(context.Background())
	if err == nil {
		l.Close()
	}
	// One whose queue is full hangs.
	return err == nil || errors.Is(err, ErrForbidden) || errors.Is(err, ErrSilent)
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
	ctx, cancel := context.WithTimeout(ctx, AnswerLimit)
	defer cancel()
	l, err := t.Reach(ctx)
	if err != nil {
		return api.Status{}, err
	}
	defer l.Close()
	return l.Status(ctx)
}

// Call sends a request to the launcher, with a question as JSON unless that is
// nil, and decodes its answer.
func (t Target) Call(ctx context.Context, method, path string, question, result any) error {
	l, err := t.Reach(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.call(ctx, method, path, question, result); err != nil {
		return t.Unanswered(err)
	}
	return nil
}

// Unanswered says what an error of the connection means.
func (t Target) Unanswered(err error) error {
	if said, ok := errors.AsType[refusal](err); ok {
		return said
	}
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the control socket %s is another user's (%w): run this as that user or with sudo", t.Control, ErrForbidden)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		// The latter two: it has ended while it was asked.
		return fmt.Errorf("%w (nobody answers on %s): %s", ErrNotRunning, t.Control, t.startHint())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w on %s in time", ErrSilent, t.Control)
	case errors.Is(err, errAnswer):
		return fmt.Errorf("the answer on %s was not taken: %w", t.Control, err)
	}
	return fmt.Errorf("ask the launcher: %w", err)
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
	case t.SocketState == "failed": // what was started too often is started no more
		return fmt.Sprintf("%q opens the port, and \"gateway doctor\" says why it is closed",
			t.Manager().Command(os.Geteuid(), "reset-failed", units.Socket, units.Service)+" && "+t.Manager().Command(os.Geteuid(), "enable", "--now", units.Socket))
	default:
		return fmt.Sprintf("%q opens the port", t.Manager().Command(os.Geteuid(), "enable", "--now", units.Socket))
	}
}

// Stopping reports whether the manager is stopping the service.
func (t Target) Stopping(ctx context.Context) bool {
	service, err := t.Manager().Unit(ctx, units.Service, "ActiveState")
	return err == nil && service["ActiveState"] == "deactivating"
}

// Stream passes on what the launcher tells of itself, until it ends or cannot be
// asked; the error says why.
func (t Target) Stream(ctx context.Context, told chan<- api.Status) error {
	l, err := t.Reach(ctx)
	if err != nil {
		return err
	}
	defer l.Close()
	return t.Unanswered(l.stream(ctx, told))
}

func (l *Launcher) stream(ctx context.Context, told chan<- api.Status) error {
	response, err := l.send(ctx, http.MethodGet, "/watch", nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, mostBytes)
	for lines.Scan() {
		var s api.Status
		if err := decode(lines.Bytes(), &s); err != nil {
			return err
		}
		if err := l.verify(&s); err != nil {
			return err
		}
		select {
		case told <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	switch err := lines.Err(); {
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return os.ErrNotExist // as if it had not been there
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("a line of more than %d bytes: %w", mostBytes, errAnswer)
	default:
		return err
	}
}
