package adopt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// Prepare finds the OpenClaw service that is meant and says what is to be done with it. It changes nothing, and fails where
// something would be in the way: an error is a sentence with the way out. It wraps [ErrUsage] where the command line has to say
// more, and is [ErrNothing] where nothing is left to do.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	plan, err := prepare(ctx, o)
	if err != nil {
		return nil, sentence{err}
	}
	return plan, nil
}

// sentence is an error in one line: what a user's files and unit say may be in it.
type sentence struct{ error }

func (s sentence) Error() string { return say.Line(s.error.Error()) }
func (s sentence) Unwrap() error { return s.error }

func prepare(ctx context.Context, o Options) (*Plan, error) {
	if !systemd.Booted() {
		return nil, errors.New("this machine does not run systemd, so there is no service to adopt: `gateway run` starts the launcher without one")
	}
	if strings.Contains(o.Unit, "/") { // its file
		o.Unit = filepath.Base(o.Unit)
	}
	all := find(ctx, o)
	chosen, err := choose(o, all)
	if err != nil {
		return nil, err
	}
	if err := o.may(chosen); err != nil {
		return nil, err
	}
	return derive(ctx, o, chosen, all)
}

// Services are the names of the units that can be adopted, of the system and of the caller.
func Services(ctx context.Context, o Options) (names []string) {
	for _, c := range withoutOurs(find(ctx, o).Found) {
		if !c.Manager.User || c.Manager.UID == os.Geteuid() { // another user's is that user's to adopt
			names = append(names, c.name())
		}
	}
	return unique(names)
}

// choose finds the one that is meant.
func choose(o Options, all seen) (Candidate, error) {
	var found, ours []Candidate
	for _, c := range all.Found {
		switch {
		case c.Ours:
			ours = append(ours, c)
		case o.Unit == "" || c.called(o.Unit):
			found = append(found, c)
		}
	}
	for _, missing := range all.Missing {
		fmt.Fprintln(o.Advice, missing)
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return ask(o, found)
	case o.Unit == "" && len(ours) > 0, o.Unit != "" && len(ours) > 0 && called(ours, o.Unit):
		return Candidate{}, fmt.Errorf("%w: %s runs the launcher already, and there is no other OpenClaw service", ErrNothing, ours[0].described())
	case o.Unit != "":
		for _, c := range all.Masked {
			if c.called(o.Unit) {
				return Candidate{}, fmt.Errorf("%s is masked, and what it would run cannot be told: run `%s`, and this again", c.described(), c.Manager.Command(o.By.UID, "unmask", c.name()))
			}
		}
		names := ""
		if others := withoutOurs(all.Found); len(others) > 0 {
			names = "; there is " + say.List(described(others))
		}
		return Candidate{}, fmt.Errorf("%s is no service that runs an OpenClaw gateway%s", say.Printable(o.Unit), names)
	default:
		return Candidate{}, fmt.Errorf("no service was found that runs an OpenClaw gateway: `openclaw gateway install`, as the user of OpenClaw, makes its own one, which can be adopted then; "+
			"`%s install --help` says how to begin without one", o.By.Program)
	}
}

func withoutOurs(all []Candidate) (rest []Candidate) {
	for _, c := range all {
		if !c.Ours {
			rest = append(rest, c)
		}
	}
	return rest
}

func called(all []Candidate, name string) bool {
	for _, c := range all {
		if c.called(name) {
			return true
		}
	}
	return false
}

// called reports whether a unit has that name, or the other end of it.
func (c Candidate) called(name string) bool {
	for _, own := range append(c.Properties.List("Names"), c.name()) {
		if own == name || own == name+".service" {
			return true
		}
	}
	return false
}

// described names a unit for people.
func (c Candidate) described() string {
	text := say.Printable(c.name())
	switch {
	case !c.Manager.User:
		return text + " of the system"
	default:
		return text + " of user " + systemd.UserName(c.Manager.UID)
	}
}

func described(all []Candidate) (texts []string) {
	for _, c := range all {
		texts = append(texts, c.described())
	}
	return texts
}

// again is the command that adopts one of them, for whoever asks.
func (o Options) again(c Candidate, more ...string) string {
	argv := []string{o.By.Program, "adopt", c.name(), "--" + string(c.scope())}
	if o.Name != "" {
		argv = append(argv, "--name", o.Name)
	}
	if o.RunAs != "" {
		argv = append(argv, "--run-as", o.RunAs)
	}
	argv = append(argv, more...)
	if c.Manager.User {
		return c.Manager.As(o.By.UID, argv...)
	}
	return systemd.As(o.By.UID, 0, argv...)
}

// ask has a person choose by a number; without one it says which commands there are.
func ask(o Options, found []Candidate) (Candidate, error) {
	if !o.Terminal || o.Yes {
		for _, c := range found {
			fmt.Fprintf(o.Advice, "%s\n", o.again(c))
		}
		return Candidate{}, Usage(fmt.Sprintf("%v: there are %s: say which one", ErrUsage, say.Count(len(found), "OpenClaw service")))
	}
	fmt.Fprintf(o.Advice, "There are %s:\n", say.Count(len(found), "OpenClaw service"))
	for i, c := range found {
		port, _ := openclaw.PortOf(c.Exec.Argv, c.Properties.List("Environment"))
		at := ""
		if port != 0 {
			at = fmt.Sprintf(", port %d", port)
		}
		fmt.Fprintf(o.Advice, "  %d  %s, %s, %s%s\n", i+1, c.described(), c.Properties["UnitFileState"], c.Properties["ActiveState"], at)
	}
	fmt.Fprint(o.Advice, "Which one? ")
	line, err := bufio.NewReader(o.In).ReadString('\n')
	number, wrong := strconv.Atoi(strings.TrimSpace(line))
	if err != nil && line == "" || wrong != nil || number < 1 || number > len(found) {
		return Candidate{}, Usage(fmt.Sprintf("%v: %q is none of the numbers 1 to %d", ErrUsage, strings.TrimSpace(line), len(found)))
	}
	return found[number-1], nil
}

// Usage is an error that wraps [ErrUsage] and has its text already.
func Usage(text string) error { return usageError(text) }

type usageError string

func (e usageError) Error() string { return string(e) }
func (e usageError) Unwrap() error { return ErrUsage }

// may refuses who cannot do it, with the command that can.
func (o Options) may(c Candidate) error {
	switch {
	case c.scope() == units.System && o.By.UID != 0:
		return fmt.Errorf("%s is root's to change: run `%s`", c.described(), o.again(c))
	case c.scope() == units.User && c.Manager.UID != o.By.UID:
		return fmt.Errorf("%s is that user's own, who adopts it: run `%s`", c.described(), o.again(c))
	case c.scope() == units.User && o.RunAs != "":
		return Usage(fmt.Sprintf("%v: --run-as goes with a service of the system only: a user's own services run as that user", ErrUsage))
	}
	return nil
}
