package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// UninstallAll is for the removal of this program: it stops and removes the units of the system scope that run it, those of all
// instances. Those of users are theirs to remove, and are named.
func (in *Installer) UninstallAll(ctx context.Context) error {
	if !in.System || in.Name != instance.Default {
		return fmt.Errorf("%w: --all is for all instances of the system scope: it goes with --system, and without --name", ErrUsage)
	}
	if _, err := os.Stat("/run/systemd/system"); err != nil && in.Root == "" {
		in.Root = "/" // nothing runs in an image, or where something else is the init (sd_booted(3))
	}
	dir, err := in.unitDir(units.System)
	if err != nil {
		return err
	}
	program, err := in.Executable()
	if err != nil {
		return fmt.Errorf("find this program's own file: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(in.Root, dir, "*.service"))
	if err != nil {
		return err
	}
	var failed []error
	for _, file := range files {
		name, ok := instance.OfUnit(filepath.Base(file))
		if !ok {
			continue
		}
		if chosen, err := units.Chosen(in.Root, dir, name); err != nil || chosen.Program != program {
			continue // somebody else's, or another copy's of this program
		}
		one := *in
		one.Name = name
		failed = append(failed, one.Uninstall(ctx))
	}
	if in.Root != "" {
		return errors.Join(failed...)
	}
	for _, t := range (client.Choice{}).Others(ctx) {
		if len(t.Runs) == 0 || t.Runs[0] != program {
			continue
		}
		fmt.Fprintf(in.Advice, "%s of user %s runs %s too, and is not root's to remove. To stop it: %s\n",
			t.Service(), t.Unit.User, program, t.Manager().Command(in.EUID(), "disable", "--now", t.Socket(), t.Service()))
	}
	fmt.Fprintf(in.Advice, "the units of a user who is not logged in are not seen from here. If they run %s, that user stops them with: %s\n",
		program, systemd.Manager{User: true}.Own("disable", "--now", instance.Default.Socket(), instance.Default.Service()))
	return errors.Join(failed...)
}
