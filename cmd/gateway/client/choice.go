package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Choice is which instances are meant; without any of it, those that there are.
type Choice struct {
	System, User bool
	Name         instance.Name
	Named        bool // that one is meant, and not whichever there are
}

// ErrUnknown says that there is no instance of a name.
var ErrUnknown = errors.New("there is no such instance")

// Of is the choice of one instance.
func Of(scope units.Scope, name instance.Name) Choice {
	return Choice{System: scope == units.System, User: scope == units.User, Name: name, Named: true}
}

// scopes are those in which is looked.
func (f Choice) scopes() []units.Scope {
	switch {
	case f.System:
		return []units.Scope{units.System}
	case f.User:
		return []units.Scope{units.User}
	default:
		return []units.Scope{units.System, units.User}
	}
}

// Targets returns the instances that were asked for, as far as there is a unit or a launcher of theirs, or their manager does
// not say. Of a scope that is named and has none, it is the default one.
func (f Choice) Targets(ctx context.Context) []Target {
	scopes := f.scopes()
	found := make([][]Target, len(scopes))
	var asking sync.WaitGroup
	for i, scope := range scopes {
		asking.Go(func() { found[i] = f.in(ctx, Target{Scope: scope}) })
	}
	asking.Wait()
	all := slices.Concat(found...)
	if len(all) == 0 && f.System != f.User && f.Name == instance.Default {
		return []Target{NewTarget(ctx, scopes[0], f.Name)}
	}
	return all
}

// in returns those of one scope, the default one first. Its manager is asked once.
func (f Choice) in(ctx context.Context, scope Target) []Target {
	first := f.Name // the default one where none is named
	at := func(name instance.Name) Target {
		t := scope
		t.Instance, t.Control = name, api.Control(t.Scope == units.User, name)
		if t.UID != 0 {
			t.Control = api.ControlOf(t.UID, name)
		}
		return t
	}
	names := []string{first.Service(), first.Socket()}
	if !f.Named {
		names = append(names, instance.Pattern(".service"), instance.Pattern(".socket"))
	}
	ctx, cancel := context.WithTimeout(ctx, ManagerLimit)
	defer cancel()
	said, err := scope.Manager().ShowAll(ctx, names, properties...)
	if err == nil && len(said) < 2 {
		err = fmt.Errorf("%d answers instead of 2", len(said))
	}
	var all []Target
	if err != nil {
		all = append(all, at(first).unasked(err))
	} else {
		all = append(all, at(first).told(said[0], said[1]))
		of := byInstance(said[2:])
		for name, pair := range of {
			all = append(all, at(name).told(pair.service, pair.socket))
		}
	}
	if !f.Named && scope.UID == 0 { // those that were started by hand
		for _, name := range api.Instances(scope.Scope == units.User) {
			if !slices.ContainsFunc(all, func(t Target) bool { return t.Instance == name }) {
				all = append(all, at(name).anew())
			}
		}
	}
	if scope.Theirs() && len(all) > mostOfOthers {
		all = all[:mostOfOthers]
	}
	all = slices.DeleteFunc(all, func(t Target) bool {
		return !t.Installed && t.Unasked == nil && (t.Theirs() || !t.Answers())
	})
	slices.SortFunc(all, func(a, b Target) int { return cmp.Compare(a.Instance, b.Instance) })
	return all
}

// mostOfOthers is how many instances of another user root asks.
const mostOfOthers = 50

// pair is the units of an instance.
type pair struct{ service, socket systemd.Properties }

// byInstance sorts units by the named instances whose names they have.
func byInstance(all []systemd.Properties) map[instance.Name]pair {
	of := map[instance.Name]pair{}
	for _, unit := range all {
		name, ok := instance.OfUnit(unit["Id"])
		if !ok || name == instance.Default {
			continue
		}
		p := of[name]
		if strings.HasSuffix(unit["Id"], ".socket") {
			p.socket = unit
		} else {
			p.service = unit
		}
		of[name] = p
	}
	return of
}

// Named returns the named instances of which a manager knows units.
func Named(ctx context.Context, manager systemd.Manager) ([]instance.Name, error) {
	ctx, cancel := context.WithTimeout(ctx, ManagerLimit)
	defer cancel()
	all, err := manager.ShowAll(ctx, []string{instance.Pattern(".service"), instance.Pattern(".socket")}, "Id", "LoadState", "Description", "ExecStart")
	var names []instance.Name
	for name, p := range byInstance(all) {
		if dropins.IsInstance(name, p.service, p.socket) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, err
}

// One returns the only target: of several the default one, where one of them is that. Verbs refuse to choose otherwise.
func (f Choice) One(ctx context.Context) (Target, error) {
	one := f
	one.Named = true
	found := one.Targets(ctx)
	if there := func(t Target) bool { return t.Installed || t.Unasked != nil || t.Answers() }; !f.Named && !slices.ContainsFunc(found, there) {
		if all := f.Targets(ctx); len(all) > 0 {
			found = all
		}
	}
	switch {
	case len(found) == 0:
		return Target{}, f.None(ctx)
	case len(found) == 1:
		return found[0], nil
	}
	for _, t := range found {
		if t.Unasked != nil {
			return Target{}, fmt.Errorf("there may be a launcher in both scopes: say which with --system or --user (%w)", t.Unasked)
		}
	}
	if len(found) == 2 && found[0].Instance == found[1].Instance {
		return Target{}, errors.New("there is a launcher in system scope and one in this user's scope: say which with --system or --user")
	}
	return Target{}, fmt.Errorf("there are several: say which with --name (%s)", list(found))
}

// list names instances with their scopes.
func list(all []Target) string {
	var names []string
	for _, t := range all {
		names = append(names, fmt.Sprintf("%s in %s scope", t.Instance, t.Scope))
	}
	return say.List(names)
}

// Unknown says that there is no instance of the name, and which there are.
func (f Choice) Unknown(ctx context.Context) error {
	there := Choice{System: f.System, User: f.User}.Targets(ctx)
	there = slices.DeleteFunc(there, func(t Target) bool { return !t.Installed && !t.Answers() })
	which := "there is none"
	if len(there) > 0 {
		which = "there " + say.Are(len(there)) + " " + list(there)
	}
	for _, scope := range f.scopes() {
		service, err := systemd.Of(scope).Unit(ctx, f.Name.Service(), "ExecStart", "LoadState")
		if err == nil && commandline.Starts(service.List("ExecStart")) {
			which += fmt.Sprintf("; %s in %s scope is OpenClaw's own, of its profile %s", f.Name.Service(), scope, f.Name)
		}
	}
	return fmt.Errorf("%w: %s (%s)", ErrUnknown, f.Name, which)
}

// Others returns, for root who has chosen no scope, the instances of other users of which there are units: whom a launcher that
// was started by hand belongs to is a matter of its user's.
func (f Choice) Others(ctx context.Context) []Target {
	folders, _ := os.ReadDir("/run/user")
	if f.System || f.User || os.Geteuid() != 0 {
		return nil
	}
	all := make([][]Target, len(folders))
	var asking sync.WaitGroup
	for i, folder := range folders {
		// That of a user who is nobody any more stays behind, as a rule.
		uid, err := strconv.Atoi(folder.Name())
		if err != nil || uid == 0 {
			continue
		}
		if _, err := systemd.Account(folder.Name()); err == nil {
			asking.Go(func() {
				t := Target{Scope: units.User, UID: uid}
				t.Unit.User = systemd.UserName(uid)
				all[i] = f.in(ctx, t)
			})
		}
	}
	asking.Wait()
	return slices.Concat(all...)
}

// NewTarget asks the manager of a scope what there is of an instance.
func NewTarget(ctx context.Context, scope units.Scope, name instance.Name) Target {
	return Target{Instance: name, Scope: scope, Control: api.Control(scope == units.User, name)}.Refreshed(ctx)
}

// OwnAddresses returns what the active socket units of both scopes listen on, as
// far as their managers can be asked.
func OwnAddresses(ctx context.Context) []netaddr.Address {
	var all []netaddr.Address
	for _, t := range (Choice{}).Targets(ctx) {
		if t.SocketState == "active" {
			all = append(all, t.Listen...)
		}
	}
	return all
}

// Nowhere is where to look when there is neither a unit nor a launcher.
func Nowhere(name instance.Name) Target {
	scope := units.User
	if os.Geteuid() == 0 {
		scope = units.System
	}
	return Target{
		Instance: name, Scope: scope, Control: api.Control(scope == units.User, name),
		Unit: api.Unit{Name: name.Service(), Scope: api.ScopeNone},
	}
}

// None says why none of the choice is found. Root, for whom it looks in no other user's scope, is told how to do the same there.
func (f Choice) None(ctx context.Context) error {
	others := f.Others(ctx)
	switch {
	case len(others) > 0:
		return elsewhere(others, os.Args)
	case f.Named && f.Name != instance.Default:
		return f.Unknown(ctx)
	}
	return None(ctx)
}

// elsewhere has the command line that was called be one about another user's launcher.
func elsewhere(others []Target, called []string) error {
	const shown = 3
	var ways []string
	for _, t := range others[:min(len(others), shown)] {
		argv := append([]string{"gateway"}, called[1:]...)
		if !slices.ContainsFunc(called, func(word string) bool { return strings.HasPrefix(word, "--name") }) {
			argv = append(argv, t.Instance.Flag()...)
		}
		command := t.Manager().As(os.Geteuid(), append(argv, "--user")...)
		if slices.Contains(called, "logs") { // which that user may not be able to read
			command = t.Logs()
		}
		ways = append(ways, fmt.Sprintf("`%s` is for that of user %s", command, t.Unit.User))
	}
	if more := len(others) - shown; more > 0 {
		ways = append(ways, fmt.Sprintf("there are %d more", more))
	}
	return fmt.Errorf("%w: neither the system nor root has one; %s", ErrNotRunning, say.List(ways))
}

// None says why no launcher is found: there is none, or what is in its place is a stranger's.
func None(ctx context.Context) error {
	if _, err := Nowhere(instance.Default).Reach(ctx); errors.Is(err, ErrStranger) {
		return err
	}
	return ErrNowhere
}
