package status

import (
	"context"
	"errors"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Reader returns the launcher that the file at path is to be compared with: the
// only one, or the one whose configuration it is. The error says why there is
// none.
func Reader(ctx context.Context, targets []client.Target, path string) (client.Target, error) {
	answering := slices.DeleteFunc(slices.Clone(targets), func(t client.Target) bool { return !t.Answers() })
	switch len(answering) {
	case 0:
		if err := client.None(ctx); errors.Is(err, client.ErrStranger) {
			return client.Target{}, err
		}
		return client.Target{}, errors.New("there is none")
	case 1:
		return answering[0], nil
	}
	owning := slices.DeleteFunc(answering, func(t client.Target) bool { return !sameFile(readBy(ctx, t), path) })
	if len(owning) == 1 {
		return owning[0], nil
	}
	which := "there is one in system scope and one in this user's scope, and this file does not tell which: say --system or --user"
	if len(answering) > 2 || answering[0].Instance != answering[1].Instance {
		which = "there are several, and this file does not tell which: say it with --name"
	}
	return client.Target{}, errors.New(which)
}

// readBy returns the file that the launcher reads.
func readBy(ctx context.Context, t client.Target) string {
	if s, err := t.Status(ctx); err == nil && s.Config.Path != "" {
		return s.Config.Path
	}
	return InstalledConfig(t.Scope, t.Instance)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// InstalledConfig returns the file that the installed service of an instance reads,
// or would read.
func InstalledConfig(scope units.Scope, name instance.Name) string {
	if dir, err := units.Dir(scope); err == nil {
		if chosen, err := units.Chosen("", dir, name); err == nil && chosen.Config != "" {
			return chosen.Config
		}
	}
	return config.DefaultPath(scope == units.User, name)
}

// ConfigOf returns the file of the installation that was chosen; "" where none was.
func ConfigOf(f client.Choice) string {
	switch {
	case f.System:
		return InstalledConfig(units.System, f.Name)
	case f.User:
		return InstalledConfig(units.User, f.Name)
	case f.Name == instance.Default:
		return ""
	}
	for _, scope := range []units.Scope{units.System, units.User} {
		if dir, err := units.Dir(scope); err == nil {
			if installed, _ := units.Installed("", dir, f.Name); len(installed) > 0 {
				return InstalledConfig(scope, f.Name)
			}
		}
	}
	return ""
}

// FileOf is the configuration that is named in args, or that of the scope or the instance, or the one that a launcher run by hand
// would read. It is an error that there is no such instance: none has units of that name, nor a configuration.
func FileOf(ctx context.Context, f client.Choice, args []string) (config.Named, error) {
	switch {
	case len(args) == 1 && args[0] == "": // a shell's variable that is not set
		return config.Named{}, errors.New("the name of the file is empty")
	case len(args) == 1:
		return config.Named{Path: args[0]}, nil
	}
	file := config.Named{Path: ConfigOf(f), Instance: f.Name}
	if f.Name != instance.Default && file.Name() == "" {
		return file, f.Unknown(ctx)
	}
	return file, nil
}

// ScopeOf is the scope that a file is for: what was asked for, that of the launcher which was found, of the only units, or of
// the system where it is its file. Otherwise whoever asks would run it.
func ScopeOf(f client.Choice, t client.Target, targets []client.Target, path string) units.Scope {
	switch {
	case f.System:
		return units.System
	case f.User:
		return units.User
	case t.Scope != "":
		return t.Scope
	case len(targets) == 1:
		return targets[0].Scope
	case sameFile(InstalledConfig(units.System, f.Name), path):
		return units.System
	default:
		return client.Nowhere(f.Name).Scope
	}
}
