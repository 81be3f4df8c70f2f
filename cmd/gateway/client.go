package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

var errNotRunning = errors.New("the launcher is not running")

// errNowhere says that there is not even a unit.
var errNowhere = fmt.Errorf("%w: there is no openclaw-gateway.service in system or user scope, and no launcher run by hand: "+
	"\"gateway install --help\" says how to install one, \"gateway run\" runs it by hand", errNotRunning)

// target is one scope in which there may be a launcher.
type target struct {
	scope   units.Scope
	control string // path of the control socket
	unit    UnitStatus
	// installed says that the manager knows the unit; socket is its socket unit.
	installed bool
	socket    string // ActiveState of the socket unit
}

// scopeFlags are --system and --user, which all commands but run have.
type scopeFlags struct {
	system, user bool
}

func (f *scopeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.system, "system", false, "the launcher of the system")
	cmd.Flags().BoolVar(&f.user, "user", false, "the launcher of this user")
	cmd.MarkFlagsMutuallyExclusive("system", "user")
}

// targets returns the scopes that were asked for; without a flag, those in which
// there is a unit or a launcher.
func (f scopeFlags) targets(ctx context.Context) []target {
	system, user := newTarget(ctx, units.System), newTarget(ctx, units.User)
	switch {
	case f.system:
		return []target{system}
	case f.user:
		return []target{user}
	}
	var found []target
	for _, t := range []target{system, user} {
		if t.installed || t.answers() {
			found = append(found, t)
		}
	}
	return found
}

// one returns the only target; verbs refuse to choose between two launchers.
func (f scopeFlags) one(ctx context.Context) (target, error) {
	found := f.targets(ctx)
	switch len(found) {
	case 0:
		return target{}, errNowhere
	case 1:
		return found[0], nil
	default:
		return target{}, errors.New("there is a launcher in system scope and one in this user's scope: say which with --system or --user")
	}
}

func newTarget(ctx context.Context, scope units.Scope) target {
	t := target{scope: scope, control: filepath.Join(runtimeDirectory(scope == units.User), controlSocket)}
	t.unit = UnitStatus{Name: units.Service, Scope: string(scope)}
	found, err := systemd.Of(scope).Show(ctx, []string{units.Service, units.Socket}, "LoadState", "ActiveState", "MainPID")
	if err != nil || len(found) != 2 {
		return t // no manager
	}
	service, socket := found[0], found[1]
	t.installed = service["LoadState"] == "loaded"
	t.unit.ActiveState, t.unit.MainPID = service["ActiveState"], service.Int("MainPID")
	t.socket = socket["ActiveState"]
	return t
}

// answers reports whether a launcher listens on the control socket, or whether
// that cannot be seen because it is somebody else's.
func (t target) answers() bool {
	conn, err := net.Dial("unix", t.control)
	if err != nil {
		return errors.Is(err, syscall.EACCES)
	}
	_ = conn.Close()
	return true
}

// call sends a request to the launcher, with a question as JSON unless that is
// nil, and decodes its answer.
func (t target) call(ctx context.Context, method, path string, question, result any) error {
	var body io.Reader
	if question != nil {
		encoded, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(encoded)
	}
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", t.control)
		},
	}}
	// The host is of no meaning on a local socket.
	request, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, body)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the control socket %s is another user's: run this as that user or with sudo", t.control)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nobody answers on %s): %s", errNotRunning, t.control, t.startHint())
	case err != nil:
		return fmt.Errorf("ask the launcher: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var failure answer
		body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if json.Unmarshal(body, &failure) != nil || failure.Error == "" {
			failure.Error = fmt.Sprintf("the launcher answered with %s", response.Status)
		}
		return errors.New(failure.Error)
	}
	if err := json.NewDecoder(response.Body).Decode(result); err != nil {
		return fmt.Errorf("read the launcher's answer: %w", err)
	}
	return nil
}

// startHint says how to get a launcher in this scope.
func (t target) startHint() string {
	systemctl := "systemctl"
	if t.scope == units.User {
		systemctl = "systemctl --user"
	}
	switch {
	case !t.installed:
		return fmt.Sprintf("\"gateway install --%s\" writes its units, \"gateway run\" runs it by hand", t.scope)
	case t.socket == "active":
		return "the next connection starts it"
	default:
		return fmt.Sprintf("\"%s enable --now openclaw-gateway.socket\" opens the port", systemctl)
	}
}

func newRestartCommand() *cobra.Command {
	return newVerb("restart", "start the next generation of the worker now",
		`Ends the present generation of the worker and starts the next one. Clients that connect meanwhile wait in the queue.
Waits until the new generation is ready; if it does not become ready, the exit status is 1 and the reason is printed.`)
}

func newReloadCommand() *cobra.Command {
	return newVerb("reload", "apply the configuration now",
		`Reads the configuration and applies it, which does nothing if it has not changed. Waits for the outcome; a
configuration that is rejected changes nothing, the exit status is 1 and the reason is printed.`)
}

func newVerb(name, short, long string) *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := scope.one(cmd.Context())
			if err != nil {
				return err
			}
			return t.call(cmd.Context(), http.MethodPost, "/"+name, nil, new(answer))
		},
	}
	scope.add(cmd)
	return cmd
}
