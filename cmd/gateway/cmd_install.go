package main

import (
	"errors"
	"os"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/install"
)

func newInstaller() *install.Installer {
	return &install.Installer{Executable: os.Executable, EUID: os.Geteuid}
}

func newInstallCommand(in *install.Installer) *cobra.Command {
	var hardened bool
	cmd := &cobra.Command{
		Use:     "install [--system [--run-as USER] | --user]",
		Short:   "write the systemd units, and a configuration if there is none",
		Example: "gateway install --user --now\nsudo gateway install --system --run-as alice\ngateway install",
		Long: `Writes openclaw-gateway.socket and openclaw-gateway.service, and a configuration if there is none, with its JSON
Schema for editors beside it, and reloads systemd. Run it again after a change of "listen" or "stop.timeout", or with a new program: it writes only what
differs, keeps the user, the configuration and the hardening of the installed service unless you say otherwise, and leaves
alone every unit that it has not written. Without --system and --user it repeats the one scope that is installed. The program has to lie where nobody but root can replace it, such as in
/usr/local/bin, because the system's socket unit starts it as root; so has the configuration if it is to be written. It restarts nothing, except the socket when its addresses have changed;
clients are refused while that takes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.Out, in.Advice = cmd.OutOrStdout(), cmd.ErrOrStderr()
			if cmd.Flags().Changed("hardened") {
				in.Hardened = &hardened
			}
			return asUsage(in.Install(cmd.Context()))
		},
	}
	installFlags(in, cmd)
	flags := cmd.Flags()
	flags.StringVar(&in.RunAs, "run-as", "", "run the service as this `USER`, to be named at first (with --system)")
	_ = cmd.RegisterFlagCompletionFunc("run-as", completeUsers) // fails for a flag that there is not
	flags.StringVar(&in.Config, "config", "", "the configuration, written if there is none (`FILE`; at first the scope's)")
	flags.BoolVar(&in.Now, "now", false, "enable and start the socket, and with --at-boot the service")
	flags.BoolVar(&in.AtBoot, "at-boot", false, "enable the service too: start it at boot, not at the first connection (as \"worker.start: at-once\" does)")
	flags.BoolVar(&hardened, "hardened", false, "a sandbox as narrow as OpenClaw can bear: no sudo, no writes outside of the home directory")
	flags.BoolVar(&in.DryRun, "dry-run", false, "print the differences and change nothing")
	return cmd
}

func newUninstallCommand(in *install.Installer) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "uninstall --system | --user",
		Short:   "stop and disable the units, and remove them; the configuration stays",
		Example: "gateway uninstall --user",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in.Out, in.Advice = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return asUsage(in.Uninstall(cmd.Context()))
		},
	}
	installFlags(in, cmd)
	return cmd
}

func asUsage(err error) error {
	if errors.Is(err, install.ErrUsage) {
		return &exitStatus{status: exitUsage, err: err}
	}
	return err
}

func installFlags(in *install.Installer, cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&in.System, "system", false, "the units of the machine, in /etc/systemd/system")
	flags.BoolVar(&in.User, "user", false, "your own units, in ~/.config/systemd/user")
	flags.StringVar(&in.Root, "root", "", "work below this `DIR` instead of /, and call no systemctl")
}
