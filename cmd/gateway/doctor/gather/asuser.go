package gather

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/asuser"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker/proctree"
)

// step is a part of the look at a scope that is taken as the user whom it is about: root does not look at what is another's.
type step string

const (
	unitsStep         step = "units"
	configurationStep step = "configuration"
)

func (g *gatherer) take(ctx context.Context, s *Scope, what step) {
	switch what {
	case unitsStep:
		g.units(ctx, s)
	case configurationStep:
		g.configuration(ctx, s)
	}
}

type question struct {
	Step    step
	Options Options
	Scope   Scope // what is known by now
}

type answer struct {
	Scope   Scope // with what the step finds out
	Unknown []Unknown
}

// A manager may answer what it likes, which there is little memory for. A file that is read has 8 MiB at the most, and becomes
// several times that, for which a busy machine takes its time.
var asReader = map[step]asuser.Question[question, answer]{
	unitsStep:         {Name: "gather.units", Limit: 2 * time.Second, Memory: 24 << 20},
	configurationStep: {Name: "gather.configuration", Limit: 5 * time.Second, Memory: 96 << 20},
}

func init() {
	for _, question := range asReader {
		question.Answer(lookAsUser)
	}
}

// lookAsUser is what the child does.
func lookAsUser(ctx context.Context, q question) (answer, error) {
	g := &gatherer{Options: q.Options, facts: &Facts{}}
	s := q.Scope
	// As in a session of that user's, which has no other variables.
	if err := os.Setenv("HOME", s.Reader.Home); err != nil {
		return answer{}, err
	}
	g.take(ctx, &s, q.Step)
	s.Launcher = nil
	if s.Config.Loaded != nil {
		s.Config.Loaded.Content = nil
	}
	if more := len(s.Config.Mistakes) - mostMistakes; more > 0 {
		s.Config.Mistakes = append(s.Config.Mistakes[:mostMistakes], fmt.Sprintf("and %d more", more))
	}
	return answer{s, g.facts.Unknown}, nil
}

// What is believed of an answer: no machine has more, and root asks the kernel for each address.
const (
	mostMistakes  = 50
	mostAddresses = 256
	mostUnits     = 1000
	mostInstances = 50
)

// check fails for what no look would find.
func (a *answer) check() error {
	addresses := len(a.Scope.Socket.Listen)
	if a.Scope.Config.Loaded != nil {
		addresses += len(a.Scope.Config.Loaded.Listen)
	}
	switch {
	case addresses > mostAddresses:
		return fmt.Errorf("it names %d addresses", addresses)
	case len(a.Scope.Sockets)+len(a.Scope.OpenClaw) > mostUnits:
		return fmt.Errorf("it names %d units", len(a.Scope.Sockets)+len(a.Scope.OpenClaw))
	case len(a.Scope.Config.Oddities) > mostMistakes:
		return fmt.Errorf("it names %d lines", len(a.Scope.Config.Oddities))
	case len(a.Scope.Named) > mostInstances:
		return fmt.Errorf("it names %d instances", len(a.Scope.Named))
	}
	for _, name := range a.Scope.Named {
		if _, ok := instance.OfDirectory(name.Directory()); !ok {
			return fmt.Errorf("it names an instance %q", string(name))
		}
	}
	return nil
}

// as takes a step as the user whose launcher the scope has: in a child where that is another one, and the caller root.
func (g *gatherer) as(ctx context.Context, s *Scope, what step) {
	uid := s.UID()
	if os.Geteuid() != 0 || uid == 0 {
		g.take(ctx, s, what)
		return
	}
	asked := *s
	asked.Launcher = nil
	if s.Launcher != nil {
		asked.Launcher = &api.Status{Config: api.Config{Path: s.Launcher.Config.Path}, Worker: api.Worker{OpenClaw: s.Launcher.Worker.OpenClaw}}
	}
	asked.Reader = &Reader{UID: uid, Home: systemd.HomeOf(uid)}
	got, err := g.ask(ctx, question{what, g.Options, asked})
	if err != nil {
		g.unknownOf(s, "the %s of the %s could not be looked at: %v", what, s.ofUser(), err)
		return
	}
	for _, unknown := range got.Unknown {
		g.addUnknown(unknown.Essential && !g.facts.Theirs(s), "%s", unknown.What)
	}
	switch what {
	case unitsStep:
		s.Socket, s.Sockets, s.Service, s.OpenClaw = got.Scope.Socket, got.Scope.Sockets, got.Scope.Service, got.Scope.OpenClaw
		s.Overrides, s.Named = got.Scope.Overrides, got.Scope.Named
		s.SessionsOnly = got.Scope.SessionsOnly
		if pid := s.Service.MainPID; pid != 0 && !isOf(pid, uid) {
			s.Service.MainPID = 0
			g.unknownOf(s, "the manager of user %s says that pid %d is the main process of %s, which is not a process of that user", s.User, pid, s.Instance.Service())
		}
	case configurationStep:
		s.Config = got.Scope.Config
		if s.Name == units.System && s.Config.Path != "" {
			s.Config.Others = othersOf(s.Config.Path)
		}
		for i := range s.Config.Exposed {
			s.Config.Exposed[i].Confirm()
		}
	}
}

// Confirm has root look for itself who can replace a file: whose it is, a file system of the user's own (FUSE) has perhaps
// told the child, and by the time of a command something else is there.
func (e *Exposed) Confirm() {
	err := read.OnlyRoots(e.Path)
	others, known := errors.AsType[*read.OthersError](err)
	if err != nil && !known {
		others = &read.OthersError{Path: e.Path, At: e.Path, Why: err.Error()}
	}
	e.Others = others
}

func (g *gatherer) ask(ctx context.Context, q question) (answer, error) {
	if q.Scope.Reader.UID < 0 {
		return answer{}, fmt.Errorf("there is no user %s", q.Scope.Service.User)
	}
	credential, err := systemd.Credential(q.Scope.Reader.UID)
	if err != nil {
		return answer{}, err
	}
	got, err := asReader[q.Step].Ask(ctx, credential, q)
	if err == nil {
		err = got.check()
	}
	return got, err
}

// ofUser names the scope for a person.
func (s *Scope) ofUser() string {
	if s.Name == units.User && s.User != "" {
		return fmt.Sprintf("scope of user %s", s.User)
	}
	return fmt.Sprintf("%s scope", s.Name)
}

// isOf reports whether a process is of a user.
func isOf(pid, uid int) bool {
	owner, err := proctree.UID(pid)
	return err == nil && int(owner) == uid
}
