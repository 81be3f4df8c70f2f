package verb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
)

// upgraded reports whether the launcher has become another program between the two.
func upgraded(before, after api.Status) bool {
	is, was := after.Launcher.Upgraded, before.Launcher.Upgraded
	return after.Launcher.PID == before.Launcher.PID && is != nil && (was == nil || is.After(*was))
}

// Upgrade has the launcher become the program that is installed now, and says what has become of it.
func Upgrade(ctx context.Context, out, errOut io.Writer, t client.Target) error {
	before, err := t.Status(ctx)
	if err != nil {
		return err
	}
	if before.Launcher.Holder != api.FromSystemd {
		return errors.New("a launcher run by hand is not upgraded: stop \"gateway run\" and start it again")
	}
	err = whileTold(ctx, errOut, t, "restart", func() error {
		return t.Call(ctx, http.MethodPost, api.UpgradePath, nil, new(api.Reply))
	})
	if err == nil {
		return errors.New("the launcher has not become another program, and does not say why")
	}
	// What has begun it cannot answer: the next program is asked.
	if !errors.Is(err, client.ErrCut) {
		return err
	}
	after, err := t.Next(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("the launcher does not answer since it was to become another program: %w", err)
	case after.Launcher.PID != before.Launcher.PID:
		return fmt.Errorf("the launcher has ended while it became another program, and systemd has started it again: pid %d", after.Launcher.PID)
	case !upgraded(before, after):
		return errors.New("the launcher has not become another program, and does not say why")
	}
	_, err = fmt.Fprintf(out, "the launcher (pid %d) is version %s now, and was %s\n", after.Launcher.PID, after.Version, before.Version)
	return err
}
