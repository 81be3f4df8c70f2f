package units

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Systemctl runs systemctl with the arguments, for the manager of the scope, and waits for it: a verb that stops the
// service takes up to its TimeoutStopSec, so the bound comes from ctx. The error holds the command line and what systemctl
// said, with what to do where it does not find the manager of a user who has not logged in, and wraps the [exec.ExitError],
// whose exit code tells the answers of is-active apart (systemctl(1)).
func Systemctl(ctx context.Context, scope Scope, args ...string) error {
	if scope == User {
		args = append([]string{"--user"}, args...)
	}
	cmd := exec.CommandContext(ctx, "systemctl", args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		line := "systemctl " + strings.Join(args, " ")
		// A sentence goes on behind it.
		if text := strings.TrimRight(said.String(), ".\n"); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
			if scope == User && os.Getenv("XDG_RUNTIME_DIR") == "" && strings.HasPrefix(text, "Failed to connect to ") {
				err = fmt.Errorf("this is no login of your own, as after su or sudo -u: log in as yourself, or run \"export XDG_RUNTIME_DIR=/run/user/$(id -u)\" first: %w", err)
			}
		}
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
}
