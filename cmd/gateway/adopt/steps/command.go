package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

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

// run runs a command to its end. It is in a process group of its own: a Ctrl-C is for this process, which puts things back.
func run(ctx context.Context, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		line := strings.Join(argv, " ")
		if text := say.Line(said.String()); text != "" {
			return fmt.Errorf("%s: %w: %s", line, err, text)
		}
		return fmt.Errorf("%s: %w", line, err)
	}
	return nil
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
