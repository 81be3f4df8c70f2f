package adopt

import (
	"errors"
	"io"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/units"
)

// Options are what "gateway adopt" was asked for.
type Options struct {
	Unit         string // "" is the only one, or the one that is chosen on the terminal
	System, User bool   // only there; neither: everywhere
	Name         string // of the instance
	RunAs        string // in system scope, the user of ours; "": that of the old one
	DryRun, Yes  bool

	By       holders.Asker
	In       io.Reader // where answers are read from
	Terminal bool      // somebody is there to answer
	Out      io.Writer // results
	Advice   io.Writer // everything else
}

// Errors that are no failures of what was tried.
var (
	// ErrUsage is wrapped by the errors of whoever has not said all that there is to say.
	ErrUsage = errors.New("the command line is not right")
	// ErrNothing says that there is no OpenClaw service that is not ours already: a second adopt has nothing to do.
	ErrNothing = errors.New("nothing is to be adopted")
)

func (o Options) wants(scope units.Scope) bool {
	return o.System == o.User || o.System == (scope == units.System)
}
