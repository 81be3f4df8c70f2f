package client

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// ErrNotRunning says that there is no launcher where it was asked for.
var ErrNotRunning = errors.New("the launcher is not running")

// ErrNowhere says that there is not even a unit.
var ErrNowhere = fmt.Errorf("%w: there is no openclaw-gateway.service in system or user scope, and no launcher run by hand: "+
	"\"gateway install --help\" says how to install one, \"gateway run\" runs it by hand", ErrNotRunning)

// ErrSilent says that there is a launcher, which does not answer in time.
var ErrSilent = errors.New("the launcher does not answer")

// ErrCut says that a launcher has ended while it was asked, or has become another program.
var ErrCut = errors.New("the launcher has not answered to the end")

// ErrForbidden says that the control socket is not for this user.
var ErrForbidden = errors.New("only the launcher's own user and root may ask it")

// AnswerLimit is how long a question that the launcher answers from memory may
// take. It hangs if it needs longer.
const AnswerLimit = 2 * time.Second

// nextLimit is the same for one that has just become another program.
const nextLimit = 10 * time.Second

// CheckLimit is the same for what an edit would do, for which it asks systemd.
const CheckLimit = 3 * time.Second

// ManagerLimit is the same for the service manager.
const ManagerLimit = 10 * time.Second

// Target is where there may be a launcher: an instance of a scope.
type Target struct {
	Instance instance.Name
	Scope    units.Scope
	Control  string // path of the control socket
	UID      int    // whose launcher is meant in a user's scope; 0: the caller's own
	Unit     api.Unit
	// Installed says that the manager knows the unit.
	Installed bool
	// Overrides are what drop-ins change in our units.
	Overrides   []dropins.Override
	SocketState string // ActiveState of the socket unit
	// Closing says that the manager is stopping the service, and the socket after it.
	Closing bool
	// Wants says that the socket unit has its addresses, or will try to get them.
	Wants    bool
	IPv6Only bool // its IPv6 wildcard takes no IPv4 clients
	// Unasked says why the manager, which is there, did not tell any of this.
	Unasked error
	// Listen is what the socket unit listens on.
	Listen []netaddr.Address
	// Cgroup is the service's control group.
	Cgroup string
	// Says is the service's STATUS=, the launcher's last words.
	Says string
	// Runs is the command line of the service, and RunsAs its User=.
	Runs   []string
	RunsAs string
	// Ended says how the launcher ended that systemd is about to start again; ""
	// where it is about to do nothing of the kind.
	Ended string
	// Lacks are the units without which the manager does not start the service, each with its state.
	Lacks []string
	// Comes says that the manager is about to start the service.
	Comes bool
	// Again is the same as Ended of one that systemd is starting again at the moment.
	Again string
}

// Theirs reports whether it is another user's scope.
func (t Target) Theirs() bool { return t.UID != 0 && t.UID != os.Geteuid() }

// Owner is the name of the user whose scope it is; "" for the system's.
func (t Target) Owner() string {
	if t.Scope != units.User {
		return ""
	}
	return systemd.UserName(t.user())
}

// Manager is the service manager of the scope.
func (t Target) Manager() systemd.Manager {
	if t.Theirs() {
		return systemd.Manager{User: true, UID: t.UID}
	}
	return systemd.Of(t.Scope)
}

// Service and Socket are the names of its units.
func (t Target) Service() string { return t.Instance.Service() }

// Socket is the other one.
func (t Target) Socket() string { return t.Instance.Socket() }

// Gateway is a command of this program about it, for whoever may ask its manager.
func (t Target) Gateway(verb string, more ...string) []string {
	return slices.Concat([]string{"gateway", verb, "--" + string(t.Scope)}, t.Instance.Flag(), more)
}

// Logs is the command with which the caller reads what it has logged.
func (t Target) Logs(options ...string) string {
	return t.Manager().Logs(os.Geteuid(), t.Service(), t.Gateway("logs"), options...)
}

// properties are what is asked of the units.
var properties = append([]string{"UnitFileState", "SubState", "MainPID", "StatusText", "NRestarts", "ExecMainCode", "ExecMainStatus", "Result", "ControlGroup", "JobType"}, dropins.Properties...)

// Refreshed asks the service manager again.
func (t Target) Refreshed(ctx context.Context) Target { return t.refreshed(ctx, nil) }

// refreshed asks again; what the manager has said of the end of the service meanwhile is how it stands.
func (t Target) refreshed(ctx context.Context, ended systemd.Properties) Target {
	if t.Unit.Scope == api.ScopeNone {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, ManagerLimit)
	defer cancel()
	found, err := t.Manager().Show(ctx, []string{t.Service(), t.Socket()}, properties...)
	if err == nil && len(found) != 2 {
		err = fmt.Errorf("%d answers instead of 2", len(found))
	}
	if err != nil {
		return t.unasked(err)
	}
	if ended != nil {
		dropins.Ended(found[0], ended)
	}
	return t.told(found[0], found[1])
}

// anew is the same one, of which nothing is known.
func (t Target) anew() Target {
	return Target{
		Instance: t.Instance, Scope: t.Scope, Control: t.Control, UID: t.UID,
		Unit: api.Unit{Name: t.Service(), Scope: string(t.Scope), User: t.Unit.User},
	}
}

func (t Target) unasked(err error) Target {
	t = t.anew()
	if !t.Theirs() && hasManager(t.Scope) {
		t.Unasked = fmt.Errorf("the manager of the %s scope does not answer: %w", t.Scope, err)
	}
	return t
}

// told is the same one with what its manager says of its units.
func (t Target) told(service, socket systemd.Properties) Target {
	t = t.anew()
	if !dropins.IsInstance(t.Instance, service, socket) {
		return t
	}
	t.Installed = dropins.Installed(t.Instance, service, socket)
	if !t.Theirs() { // it reads the drop-ins
		t.Overrides = dropins.In([]systemd.Properties{service, socket})
	}
	// Another user's manager may say anything.
	t.Unit.ActiveState, t.Unit.MainPID = say.Line(service["ActiveState"]), service.Int("MainPID")
	t.Says, t.Cgroup = say.Line(service["StatusText"]), service["ControlGroup"]
	t.Runs, t.RunsAs = service.List("ExecStart"), service["User"]
	switch {
	case strings.HasPrefix(service["SubState"], "auto-restart"):
		t.Ended = endOf(service)
	case service["ActiveState"] == "activating" && service.Int("NRestarts") > 0:
		t.Again = endOf(service)
	}
	t.SocketState, t.Listen = socket["ActiveState"], socket.Listen()
	t.Lacks, t.Comes = dropins.Lacking(service), service["JobType"] == "start"
	t.Closing = t.Unit.ActiveState == "deactivating" && socket["JobType"] == "stop"
	t.Wants = strings.HasPrefix(socket["UnitFileState"], "enabled") || t.SocketState == "active" || t.SocketState == "failed"
	t.IPv6Only = socket["BindIPv6Only"] == "ipv6-only"
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

// Ask is Call for what the launcher answers at once.
func (t Target) Ask(ctx context.Context, path string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, AnswerLimit)
	defer cancel()
	return t.Call(ctx, http.MethodGet, path, nil, result)
}

// Status asks the launcher for what it knows by heart: one that hangs shows itself
// before it is asked for something that may take long.
func (t Target) Status(ctx context.Context) (api.Status, error) {
	s, err := t.statusWithin(ctx, AnswerLimit)
	if errors.Is(err, ErrCut) { // one that has become another program answers still
		s, err = t.Next(ctx)
	}
	return s, err
}

// Next is Status for a launcher that has just become another program, which reads first what the earlier one has left to it.
func (t Target) Next(ctx context.Context) (api.Status, error) {
	return t.statusWithin(ctx, nextLimit)
}

func (t Target) statusWithin(ctx context.Context, limit time.Duration) (api.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
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
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("%w (%w on %s): %s", ErrNotRunning, ErrCut, t.Control, t.startHint())
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody answers on %s): %s", ErrNotRunning, t.Control, t.startHint())
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("%w on %s in time", ErrSilent, t.Control)
	case errors.Is(err, ErrReplaced):
		return err
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
		return fmt.Sprintf("%q writes its units, %q runs it by hand", say.Shell(t.Gateway("install")...), say.Shell(append([]string{"gateway", "run"}, t.Instance.Flag()...)...))
	case t.SocketState == "active":
		return "the next connection starts it"
	case t.SocketState == "failed": // what was started too often is started no more
		return fmt.Sprintf("%q opens the port, and \"gateway doctor\" says why it is closed",
			t.Manager().Command(os.Geteuid(), "reset-failed", t.Socket(), t.Service())+" && "+t.Manager().Command(os.Geteuid(), "enable", "--now", t.Socket()))
	default:
		return fmt.Sprintf("%q opens the port", t.Manager().Command(os.Geteuid(), "enable", "--now", t.Socket()))
	}
}

// Stopping reports whether the manager is stopping the service.
func (t Target) Stopping(ctx context.Context) bool {
	service, err := t.Manager().Unit(ctx, t.Service(), "ActiveState")
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
	response, err := l.send(ctx, http.MethodGet, api.WatchPath, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, mostBytes)
	for lines.Scan() {
		var s api.Status
		if err := l.decode(lines.Bytes(), &s); err != nil {
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
