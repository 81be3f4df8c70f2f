package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/steps"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/install"
	"openclaw-gateway/units/instance"
)

func newInstaller() *install.Installer {
	return &install.Installer{Executable: os.Executable, EUID: os.Geteuid}
}

func newInstallCommand(in *install.Installer) *cobra.Command {
	var hardened, external bool
	cmd := &cobra.Command{
		Use:     "install [--system [--run-as USER] | --user]",
		Short:   "write the systemd units, and a configuration if there is none",
		Example: "gateway install --user --now\nsudo gateway install --system --run-as alice\ngateway install",
		Long: `Writes openclaw-gateway.socket and openclaw-gateway.service, and reloads systemd. If there is no configuration it writes one, with its JSON Schema for editors beside it.
Run it again after a change of "listen", "stop.timeout" or "worker.start", of "worker.directory" in a hardened unit, or with a program at another place. For a new version at the
same place it is "gateway upgrade". Without --system and --user it then repeats the one scope that is installed. It writes only what differs. It keeps the user, the configuration and the hardening of the installed service unless you say otherwise. It leaves alone every unit that it has not written. It restarts
nothing, except the socket if its addresses have changed; clients are refused while that takes. With --system the program must be in a place where only root can replace it, such as /usr/local/bin, because
the socket unit starts it as root. The same holds for the configuration, if it is to be written.

OpenClaw's own "gateway install" and "gateway uninstall" act on the units that they find, on ours too, unless OpenClaw's .env says OPENCLAW_SUPERVISOR_MODE=external. If the configuration runs an OpenClaw,
you are asked at the terminal whether to write that there; --external says yes. "gateway uninstall" takes it out.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.In, in.Out, in.Advice = cmd.InOrStdin(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			if cmd.Flags().Changed("hardened") {
				in.Hardened = &hardened
			}
			if cmd.Flags().Changed("external") {
				in.External = &external
			}
			return asUsage(in.Install(cmd.Context()))
		},
	}
	installFlags(in, cmd)
	flags := cmd.Flags()
	flags.StringVar(&in.RunAs, "run-as", "", "run the service as this `USER`; the first --system installation needs it")
	_ = cmd.RegisterFlagCompletionFunc("run-as", completeUsers) // fails for a flag that there is not
	flags.StringVar(&in.Config, "config", "", "the configuration `FILE`, written if there is none (default: the scope's)")
	flags.BoolVar(&in.Now, "now", false, "enable and start the socket, and with --at-boot the service")
	flags.BoolVar(&in.AtBoot, "at-boot", false, "start the service at boot, not at the first connection (\"worker.start: at-once\" does so too)")
	flags.BoolVar(&hardened, "hardened", false, "forbid all that OpenClaw can do without: sudo, writing outside of the home directory")
	flags.BoolVar(&external, "external", false, "keep OpenClaw's own commands away from the units: write OPENCLAW_SUPERVISOR_MODE=external into its .env, without asking; =false takes it out")
	flags.BoolVar(&in.DryRun, "dry-run", false, "print the differences and change nothing")
	return cmd
}

func newUninstallCommand(in *install.Installer) *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:     "uninstall --system | --user",
		Short:   "stop and disable the units, and remove them; the configuration stays",
		Example: "gateway uninstall --user",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.Out, in.Advice = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if all {
				kept := steps.TellKept(adopt.Options{By: holders.Me(), Advice: in.Advice})
				return asUsage(errors.Join(in.UninstallAll(cmd.Context()), kept))
			}
			return asUsage(in.Uninstall(cmd.Context()))
		},
	}
	installFlags(in, cmd)
	cmd.Flags().BoolVar(&all, "all", false, "with --system, before this program is removed: remove all instances of the system that run it, and name those of users")
	return cmd
}

func asUsage(err error) error {
	if errors.Is(err, install.ErrUsage) || errors.Is(err, adopt.ErrUsage) {
		return &exitStatus{status: exitUsage, err: err}
	}
	return err
}

func installFlags(in *install.Installer, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&in.System, "system", false, "the units of the machine, in /etc/systemd/system")
	flags.BoolVar(&in.User, "user", false, "your own units, in ~/.config/systemd/user")
	flags.Var(instance.Option{Name: &in.Name}, "name", "the units of this instance, openclaw-gateway-`NAME`; without it the default one")
	_ = cmd.RegisterFlagCompletionFunc("name", completeInstances)
	flags.StringVar(&in.Root, "root", "", "work below this `DIR` instead of /, and call no systemctl")
}
