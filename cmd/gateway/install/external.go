package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// dotEnv finds the .env of the OpenClaw that a service runs; false where it runs none.
func (in *Installer) dotEnv(ctx context.Context, to installation) (file dotenv.File, is bool, err error) {
	if in.Root != "" {
		return file, false, nil
	}
	uid := in.EUID()
	if to.account != nil {
		if uid, err = strconv.Atoi(to.account.Uid); err != nil {
			return file, false, err
		}
	}
	gateway := dotenv.GatewayOf(to.worker, uid, systemd.HomeOf(uid), uid)
	if len(gateway.Command) == 0 && !to.unread {
		return file, false, nil
	}
	file, err = dotenv.Find(ctx, gateway)
	return file, err == nil, err
}

// leaveToUs has OpenClaw's own commands leave the units alone, or takes that back, as far as somebody has said so.
func (in *Installer) leaveToUs(ctx context.Context, to installation) error {
	file, is, err := in.dotEnv(ctx, to)
	if errors.Is(err, dotenv.ErrUnknown) {
		say.Tell(in.Advice, "OpenClaw's own \"gateway install\" and \"gateway uninstall\" can replace or remove these units: %v", err)
		return nil
	}
	if err == nil && !is && in.External != nil && *in.External {
		say.Tell(in.Advice, "nothing is written for --external: worker.command does not show that it starts OpenClaw; if it does, write %s into the .env of its state directory yourself", dotenv.Line)
	}
	if err != nil || !is {
		return err
	}
	state, err := file.Look(ctx)
	switch {
	case err != nil:
		return err
	case in.External != nil && !*in.External:
		return in.takeOut(ctx, file)
	case state.External(), in.DryRun && in.External == nil:
		return nil
	}
	wanted := in.External != nil
	way, _ := commandline.Gateway(to.worker.Command, to.worker.Environment)
	if version := openclaw.Installed(openclaw.Entry(way.Words)); !wanted && version != "" && !dotenv.Known(version) {
		say.Tell(in.Advice, "OpenClaw %s cannot be told that its service is yours to run by gateway: its own \"gateway install\", \"stop\" and "+
			"\"uninstall\" still act on these units", version)
		return nil
	}
	if !wanted {
		var asked bool
		if wanted, asked = say.Confirm(in.In, in.Advice, fmt.Sprintf("OpenClaw's own \"gateway install\" and \"gateway uninstall\" would replace or remove "+
			"these units. Keep them from it, by %s in %s?", dotenv.Line, file.Path)); !asked {
			say.Tell(in.Advice, "OpenClaw's own \"gateway install\" and \"gateway uninstall\" can replace or remove these units: keep them from it with `%s`",
				in.command("install", append([]string{"--" + string(to.scope), "--external"}, in.options()...)...))
		}
	}
	if !wanted {
		return nil
	}
	if in.DryRun {
		fmt.Fprintf(in.Out, "%s would be written into %s\n", dotenv.Line, file.Path)
		return nil
	}
	if state, err = file.Set(ctx); err != nil {
		return fmt.Errorf("the units are there, and OpenClaw's own commands can still replace or remove them: %w", err)
	}
	fmt.Fprintf(in.Out, "%s is in %s: OpenClaw leaves its service to gateway\n", dotenv.Line, state.Path)
	return nil
}

func (in *Installer) takeOut(ctx context.Context, file dotenv.File) error {
	before, err := file.Look(ctx)
	if err != nil || !before.Ours {
		return err
	}
	if in.DryRun {
		fmt.Fprintf(in.Out, "%s would be taken out of %s\n", dotenv.Line, file.Path)
		return nil
	}
	if _, err := file.TakeOut(ctx); err != nil {
		return err
	}
	fmt.Fprintf(in.Out, "%s is out of %s\n", dotenv.Line, file.Path)
	return nil
}

// giveBack takes out of OpenClaw's file what an installation has put there. The units are gone by then, so whatever cannot be
// found out is no more than said.
func (in *Installer) giveBack(ctx context.Context, to installation) error {
	path := cmp.Or(to.config, config.DefaultPath(to.scope == units.User, in.Name))
	if settings, found, err := in.loadConfig(path, nil); err == nil && found {
		to.worker = settings.Worker
	} else {
		to.unread = true // where OpenClaw has its state as a rule
	}
	var err error
	switch to.account, err = in.account(to.scope); {
	case systemd.NoUser(err): // whose OpenClaw nobody runs
		say.Tell(in.Advice, "there is no user %s any more: what OpenClaw's .env of that user has of ours is left as it is, if it is still there", in.RunAs)
		return nil
	case err != nil:
		return err
	}
	file, is, err := in.dotEnv(ctx, to)
	switch {
	case err != nil:
		say.Tell(in.Advice, "what OpenClaw's .env has of ours is left as it is, if there is one: %v", err)
		return nil
	case !is:
		return nil
	}
	return in.takeOut(ctx, file)
}
