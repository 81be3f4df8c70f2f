package status

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/units"
)

// WayOut adds to the reason why a verb failed what the caller can do about it.
func WayOut(ctx context.Context, t client.Target, verb string, err error) error {
	command := func(verb string) string {
		return t.Manager().As(os.Geteuid(), t.Gateway(verb)...)
	}
	_, byManager := errors.AsType[*exec.ExitError](err)
	missing := errors.Is(err, client.ErrNotRunning)
	switch {
	case errors.Is(err, client.ErrSilent):
		return errors.New(silenceOf(t, err))
	case t.Scope == units.System && os.Geteuid() != 0 && (byManager || errors.Is(err, client.ErrForbidden)):
		return fmt.Errorf("%w: `%s` does it as root", err, command(verb))
	case !byManager && !missing:
		return err
	}
	t = t.Refreshed(ctx)
	for _, address := range t.Listen {
		if address.IsUnix() {
			continue // systemd takes the path from whoever has it
		}
		if held, look := sockdiag.Listening(address); t.SocketState != "active" && look == nil && len(held) > 0 {
			// What else was said is a consequence.
			return fmt.Errorf("cannot %s: %s; then `%s`", verb, holders.InUse(ctx, address), command("start"))
		}
	}
	if missing {
		return err // which says what starts one
	}
	return fmt.Errorf("%w: `%s` says what is wrong", err, command("doctor"))
}
