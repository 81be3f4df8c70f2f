package status

import (
	"context"
	"errors"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
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
	return client.Target{}, errors.New("there is one in system scope and one in this user's scope, " +
		"and this file does not tell which: say --system or --user")
}

// readBy returns the file that the launcher reads.
func readBy(ctx context.Context, t client.Target) string {
	if s, err := t.Status(ctx); err == nil && s.Config.Path != "" {
		return s.Config.Path
	}
	return InstalledConfig(t.Scope)
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

// InstalledConfig returns the file that the installed service of a scope reads,
// or would read.
func InstalledConfig(scope units.Scope) string {
	if dir, err := units.Dir(scope); err == nil {
		if chosen, err := units.Chosen("", dir); err == nil && chosen.Config != "" {
			return chosen.Config
		}
	}
	return config.DefaultPath(scope == units.User)
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
	case sameFile(InstalledConfig(units.System), path):
		return units.System
	default:
		return client.Nowhere().Scope
	}
}
