package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

// Request asks the launcher for something that may take its time, of the path: a restart, one that does not wait, or a reload.
func Request(ctx context.Context, errOut io.Writer, t client.Target, path string) error {
	before, err := t.Status(ctx)
	if err == nil {
		err = whileTold(ctx, errOut, t, "restart", func() error {
			err := t.Call(ctx, http.MethodPost, path, nil, new(api.Reply))
			if errors.Is(err, client.ErrCut) {
				if after, failed := t.Next(ctx); failed == nil && upgraded(before, after) {
					// It has become another program meanwhile, and nobody has taken the request.
					return t.Call(ctx, http.MethodPost, path, nil, new(api.Reply))
				}
			}
			return err
		})
	}
	if err != nil && proctree.ExecutedBySystemd() && t.Stopping(ctx) {
		// A reload that systemd's own stop has overtaken is no failure: the exit
		// status would make the stopped unit a failed one.
		fmt.Fprintf(errOut, "gateway: %v\n", err)
		return nil
	}
	return withLastWords(ctx, t, err)
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
func whileTold(ctx context.Context, errOut io.Writer, t client.Target, verb string, do func() error) error {
	if !say.IsTerminal(errOut) {
		return do()
	}
	ctx, cancel := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() {
		status.Progress(ctx, errOut, t, t.Manager().As(os.Geteuid(), t.Gateway(verb, "--now")...))
	})
	defer telling.Wait()
	defer cancel()
	return do()
}

// HasUnits fails unless the manager has the units of a launcher.
func HasUnits(t client.Target) error {
	if t.Unasked != nil {
		return t.Unasked
	}
	if !t.Installed {
		return fmt.Errorf("there is no %s in %s scope: %q writes it (a launcher run by hand stops with Ctrl-C)",
			t.Service(), t.Scope, say.Shell(t.Gateway("install")...))
	}
	if len(t.Overrides) == 0 && commandline.Starts(t.Runs) {
		return fmt.Errorf("%s in %s scope is OpenClaw's own and not the launcher: it runs %s; %q says what to do about it",
			t.Service(), t.Scope, say.CommandLine(t.Runs), say.Shell(t.Gateway("doctor")...))
	}
	return nil
}

// hurry has the launcher wait for the worker no longer, which it answers at once.
func hurry(ctx context.Context, t client.Target) error {
	ctx, cancel := context.WithTimeout(ctx, client.AnswerLimit)
	defer cancel()
	return t.Call(ctx, http.MethodPost, api.HurryPath, nil, new(api.Reply))
}

// Start opens the port and starts the launcher.
func Start(ctx context.Context, t client.Target) error {
	return units.Systemctl(ctx, t.Scope, "start", t.Socket(), t.Service())
}

// Stop stops both and waits until nobody listens any more; with now it does not wait for the worker's work.
func Stop(ctx context.Context, errOut io.Writer, t client.Target, now bool) error {
	// Together: with the service alone the next client would start it again.
	if now {
		if err := units.Systemctl(ctx, t.Scope, "stop", "--no-block", t.Socket(), t.Service()); err != nil {
			return err
		}
		if err := hurry(ctx, t); err != nil && !errors.Is(err, client.ErrNotRunning) {
			fmt.Fprintf(errOut, "gateway: the worker is stopped without hurry: %v\n", err)
		}
	}
	err := whileTold(ctx, errOut, t, "stop", func() error { return units.Systemctl(ctx, t.Scope, "stop", t.Socket(), t.Service()) })
	if err != nil {
		return err
	}
	if err := holders.AwaitFree(ctx, t.Listen); err != nil {
		return fmt.Errorf("stopped, but %w", err)
	}
	return nil
}
