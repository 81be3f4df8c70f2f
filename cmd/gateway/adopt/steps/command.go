package steps

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/proctree"
)

func (a *adoption) systemctl(ctx context.Context, arguments ...string) error {
	return systemctl(ctx, a.Scope, arguments...)
}

func systemctl(ctx context.Context, scope units.Scope, arguments ...string) error {
	argv := []string{"systemctl", "--no-ask-password"}
	if scope == units.User {
		argv = append(argv, "--user")
	}
	return run(ctx, append(argv, arguments...)...)
}

// run runs a command to its end.
func run(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = apart()
	return start(ctx, cmd)()
}

// apart has a command run in a session of its own, without a terminal: a Ctrl-C is for this process, which puts things back.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// runAsUser is run as another user.
func runAsUser(ctx context.Context, uid int, argv ...string) error {
	cmd, err := asUser(ctx, uid, argv...)
	if err != nil {
		return err
	}
	return start(ctx, cmd)()
}

// asUser is a command that runs as another user, who can trace it and does then whatever it can. So it gets nothing of this
// process's: not the terminal, on which that user could type for root (TIOCSTI), no descriptor but /dev/null and pipes, no
// environment, no folder. It takes root.
func asUser(ctx context.Context, uid int, argv ...string) (*exec.Cmd, error) {
	credential, err := systemd.Credential(uid)
	if err != nil {
		return nil, err
	}
	// What a careless parent has left open; those of Go's own are closed by execve(2) already.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close_range: %w", err)
	}
	// setpriv(1) becomes the command: to kill it is to kill that.
	cmd := exec.CommandContext(ctx, "setpriv", append([]string{fmt.Sprintf("--reuid=%d", uid), fmt.Sprintf("--regid=%d", credential.Gid), "--init-groups", "--"}, argv...)...)
	cmd.SysProcAttr, cmd.Env, cmd.Dir = apart(), []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, "/"
	return cmd, nil
}

// start starts a command, and returns what waits for its end.
func start(ctx context.Context, cmd *exec.Cmd) (finish func() error) {
	said := &beginning{}
	cmd.Stderr = said
	cmd.WaitDelay = time.Second // whoever traces another user's may keep an end of the pipe
	err := cmd.Start()
	return func() error {
		if err == nil {
			err = cmd.Wait()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil || errors.Is(err, exec.ErrWaitDelay) { // it has ended well
			return nil
		}
		line := strings.Join(cmd.Args, " ")
		if text := say.Line(string(said.kept)); text != "" {
			return fmt.Errorf("%s: %w: %s", line, err, text)
		}
		return fmt.Errorf("%s: %w", line, err)
	}
}

// beginning keeps the first 4 KiB of what is written.
type beginning struct{ kept []byte }

func (b *beginning) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), 4<<10-len(b.kept))]...)
	return len(p), nil
}

// notFromInside fails if this process would end with the unit that it is about to stop: an OpenClaw can be asked to do this. And if
// systemctl does not find the manager, which we find without a login too: then it could not be stopped at all.
func notFromInside(ctx context.Context, manager systemd.Manager, unit string) error {
	if manager.User {
		if err := units.Systemctl(ctx, units.User, "show", "--property=Version"); err != nil {
			return fmt.Errorf("nothing is changed, because systemd cannot be asked: %w", err)
		}
	}
	services, err := manager.Services(ctx, unit)
	if err != nil {
		return err
	}
	for _, service := range services {
		if service.Contains(proctree.Cgroup(os.Getpid())) {
			return errors.New("this has been started by " + unit + " itself, and would be ended with it: run it in a terminal of your own")
		}
	}
	return nil
}
