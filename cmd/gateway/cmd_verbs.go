package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// scopeFlags are --system and --user, which all commands but run have.
type scopeFlags struct{ client.Choice }

func (f *scopeFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.System, "system", false, "the launcher of the system")
	cmd.Flags().BoolVar(&f.User, "user", false, "the launcher of this user")
	cmd.MarkFlagsMutuallyExclusive("system", "user")
}

func newRestartCommand() *cobra.Command {
	now := false
	cmd := newRequest("restart", "start the next generation of the worker now",
		`Ends the present generation of the worker and starts the next one. Clients that connect meanwhile wait in the queue.
Waits until the new generation is ready; if it does not become ready, the exit status is 1 and the reason is printed.
The worker may finish its work for as long as stop.timeout; with --now it is killed at once, also if it is stopping already.`,
		func() string {
			if now {
				return "restart-now"
			}
			return "restart"
		})
	cmd.Flags().BoolVar(&now, "now", false, "do not wait for the worker to finish its work")
	cmd.Example += "\n" + cmd.Example + " --now"
	return cmd
}

func newReloadCommand() *cobra.Command {
	return newRequest("reload", "apply the configuration now",
		`Reads the configuration and applies it, which does nothing if it has not changed. Waits for the outcome; a
configuration that is rejected changes nothing, the exit status is 1 and the reason is printed.`,
		func() string { return "reload" })
}

// newRequest asks the launcher for something that may take its time.
func newRequest(name, short, long string, request func() string) *cobra.Command {
	return newVerb(name, short, long, func(cmd *cobra.Command, t client.Target) error {
		_, err := t.Status(cmd.Context())
		if err == nil {
			err = whileTold(cmd, t, "restart", func() error {
				return t.Call(cmd.Context(), http.MethodPost, "/"+request(), nil, new(api.Reply))
			})
		}
		if err != nil && proctree.ExecutedBySystemd() && t.Stopping(cmd.Context()) {
			// A reload that systemd's own stop has overtaken is no failure: the exit
			// status would make the stopped unit a failed one.
			fmt.Fprintf(cmd.ErrOrStderr(), "gateway: %v\n", err)
			return nil
		}
		return withLastWords(cmd.Context(), t, err)
	})
}

// withLastWords adds to an error what the worker said last. The journal, in which systemd's own reload ends, has that.
func withLastWords(ctx context.Context, t client.Target, err error) error {
	if err == nil || proctree.ExecutedBySystemd() {
		return err
	}
	told, failed := t.Status(ctx)
	if failed != nil {
		return err
	}
	if lastwords.Ask(t).Await(ctx, &told); len(told.Worker.LastWords) == 0 {
		return err
	}
	return fmt.Errorf("%w\nits last words:\n  %s", err, strings.Join(told.Worker.LastWords, "\n  "))
}

// whileTold does something that may take its time; who sits at a terminal is told what it waits for.
func whileTold(cmd *cobra.Command, t client.Target, verb string, do func() error) error {
	if !say.IsTerminal(cmd.ErrOrStderr()) {
		return do()
	}
	ctx, cancel := context.WithCancel(cmd.Context())
	var telling sync.WaitGroup
	telling.Go(func() {
		status.Progress(ctx, cmd.ErrOrStderr(), t, t.Manager().As(os.Geteuid(), "gateway", verb, "--"+string(t.Scope), "--now"))
	})
	defer telling.Wait()
	defer cancel()
	return do()
}

// newVerb is a command that does something with the only launcher.
func newVerb(name, short, long string, do func(*cobra.Command, client.Target) error) *cobra.Command {
	var scope scopeFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Long: long, Example: "gateway " + name, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := scope.One(cmd.Context())
			if err != nil {
				return err
			}
			if err := do(cmd, t); err != nil {
				return status.WayOut(cmd.Context(), t, name, err)
			}
			return nil
		},
	}
	scope.add(cmd)
	return cmd
}

func newStartCommand() *cobra.Command {
	return newUnitsCommand("start", "open the port and start the launcher",
		`Starts the socket and the service. It returns when the worker is ready, when the launcher waits for a first client
(worker.start: on-demand), or when the first generation has failed; "gateway status" says which.`,
		func(cmd *cobra.Command, t client.Target) error {
			return units.Systemctl(cmd.Context(), t.Scope, "start", units.Socket, units.Service)
		})
}

func newStopCommand() *cobra.Command {
	now := false
	cmd := newUnitsCommand("stop", "stop the worker and the launcher, and close the port",
		`Stops the service and the socket, and checks that nobody listens any more. "systemctl stop openclaw-gateway.service"
alone leaves the port open, and the next client starts everything again. The worker may finish its work for as long as
stop.timeout; with --now it is killed at once, also if it is stopping already.`,
		func(cmd *cobra.Command, t client.Target) error {
			ctx := cmd.Context()
			// Together: with the service alone the next client would start it again.
			if now {
				if err := units.Systemctl(ctx, t.Scope, "stop", "--no-block", units.Socket, units.Service); err != nil {
					return err
				}
				if err := t.Call(ctx, http.MethodPost, "/hurry", nil, new(api.Reply)); err != nil && !errors.Is(err, client.ErrNotRunning) {
					fmt.Fprintf(cmd.ErrOrStderr(), "gateway: the worker is stopped without hurry: %v\n", err)
				}
			}
			err := whileTold(cmd, t, "stop", func() error { return units.Systemctl(ctx, t.Scope, "stop", units.Socket, units.Service) })
			if err != nil {
				return err
			}
			if err := holders.AwaitFree(ctx, t.Listen); err != nil {
				return fmt.Errorf("stopped, but %w", err)
			}
			return nil
		})
	cmd.Flags().BoolVar(&now, "now", false, "do not wait for the worker to finish its work")
	cmd.Example += "\n" + cmd.Example + " --now"
	return cmd
}

func newUnitsCommand(name, short, long string, do func(*cobra.Command, client.Target) error) *cobra.Command {
	return newVerb(name, short, long, func(cmd *cobra.Command, t client.Target) error {
		if t.Unasked != nil {
			return t.Unasked
		}
		if !t.Installed {
			return fmt.Errorf("there is no %s in %s scope: \"gateway install --%s\" writes it (a launcher run by hand stops with Ctrl-C)",
				units.Service, t.Scope, t.Scope)
		}
		if len(t.Overrides) == 0 && openclaw.Starts(t.Runs) {
			return fmt.Errorf("%s in %s scope is OpenClaw's own and not the launcher: it runs %s; \"gateway doctor --%s\" says what to do about it",
				units.Service, t.Scope, say.CommandLine(t.Runs), t.Scope)
		}
		return do(cmd, t)
	})
}
