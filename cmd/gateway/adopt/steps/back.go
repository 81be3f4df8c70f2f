package steps

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/state"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// goBack puts back what adoptions, or what takes them back, have left half done: those of the scopes that the caller may change.
func goBack(ctx context.Context, o adopt.Options) error {
	ctx, stop := untilTold(ctx)
	defer stop()
	for _, scope := range scopes(o) {
		base, err := journal.Base(scope == units.User)
		if err != nil {
			continue // whose it is, is told
		}
		for _, half := range journal.Pending(base) {
			if err := goBackFrom(ctx, base, half, o); err != nil {
				return err
			}
		}
	}
	return nil
}

func goBackFrom(ctx context.Context, base string, half journal.Half, o adopt.Options) error {
	j, err := journal.Open(base, half.Instance)
	if err != nil {
		return err
	}
	defer j.Close()
	if !j.Phase.Unfinished() {
		return nil // it has come to its end meanwhile
	}
	if o.DryRun {
		return fmt.Errorf("%s, begun at %s, was interrupted: `%s` puts back what was there", half, say.Clock(j.Begun),
			commandFor(o, units.Scope(j.Scope), instance.Name(j.Instance), "adopt", "--undo"))
	}
	fmt.Fprintf(o.Out, "%s, begun at %s, was interrupted: putting back what was there\n", half, say.Clock(j.Begun))
	return back(context.WithoutCancel(ctx), j, o)
}

// scopes are those in which the caller can have adopted something.
func scopes(o adopt.Options) (all []units.Scope) {
	if os.Geteuid() == 0 && !o.User {
		all = append(all, units.System)
	}
	if !o.System {
		all = append(all, units.User)
	}
	return all
}

// found is an adoption.
type found struct {
	base, directory string
	journal.Record
}

func (f found) name() instance.Name { return instance.Name(f.Instance) }

// Undo gives the old unit back, as it was. An adoption that was given back already is no error; that there was none is.
func Undo(ctx context.Context, o adopt.Options) error {
	ctx, stop := untilTold(ctx)
	defer stop()
	var all []found
	var others []string // what is adopted under other names
	for _, scope := range scopes(o) {
		base, err := journal.Base(scope == units.User)
		if err != nil && o.User {
			return err
		}
		if err != nil {
			continue
		}
		for _, directory := range journal.All(base) {
			record, err := journal.Look(base, directory)
			if err != nil {
				return err
			}
			if o.Name == "" || o.Name == instance.Name(record.Instance).String() {
				all = append(all, found{base, directory, record})
			} else if record.Phase != journal.Undone {
				others = append(others, fmt.Sprintf("%s (%s)", instance.Name(record.Instance), record.Old.Name))
			}
		}
	}
	alive := slices.DeleteFunc(slices.Clone(all), func(f found) bool { return f.Phase == journal.Undone })
	switch {
	case len(alive) == 0 && len(all) > 0:
		last := slices.MaxFunc(all, func(a, b found) int { return a.Ended.Compare(b.Ended) })
		fmt.Fprintf(o.Out, "%s was given back already, at %s\n", last.Old.Name, say.Clock(last.Ended))
		return nil
	case len(alive) == 0 && len(others) > 0:
		return fmt.Errorf("the instance %s has not been adopted; what has been: %s", o.Name, say.List(others))
	case len(alive) == 0:
		return none(o)
	case len(alive) > 1:
		var commands []string
		for _, f := range alive {
			commands = append(commands, fmt.Sprintf("`%s` (%s)", commandFor(o, units.Scope(f.Scope), "", "adopt", "--undo", "--name", f.name().String()), f.Old.Name))
		}
		return fmt.Errorf("%w: several have been adopted, so run one of %s", adopt.ErrUsage, strings.Join(commands, ", "))
	}
	return undo(ctx, alive[0], o)
}

// TellKept names, as this program is about to be removed, the services whose places ours have in the system's scope: nobody gives
// them back with it.
func TellKept(o adopt.Options) error {
	base, err := journal.Base(false)
	if err != nil {
		return err
	}
	for _, directory := range journal.All(base) {
		record, err := journal.Look(base, directory)
		if err != nil {
			return err
		}
		if record.Phase != journal.Undone {
			fmt.Fprintf(o.Advice, "%s, which was adopted, is not given back by this. What was there is kept in %s; to have it back, install this program again and run: %s\n",
				record.Old.Name, filepath.Join(base, directory), commandFor(o, units.System, instance.Name(record.Instance), "adopt", "--undo"))
		}
	}
	return nil
}

func none(o adopt.Options) error {
	if os.Geteuid() != 0 && !o.User {
		base, err := journal.Base(false)
		if _, statErr := os.Lstat(base); err == nil && statErr == nil {
			return fmt.Errorf("you have adopted nothing; what the machine has is root's to give back: `%s`",
				systemd.As(os.Geteuid(), 0, o.By.Program, "adopt", "--undo"))
		}
	}
	return errors.New("nothing has been adopted here, so there is nothing to give back")
}

func undo(ctx context.Context, f found, o adopt.Options) error {
	if o.DryRun {
		fmt.Fprintf(o.Out, "would stop %s and %s, and put back, as it was when %s was adopted at %s:\n", f.name().Socket(), f.name().Service(), f.Old.Name, say.Clock(f.Begun))
		for _, change := range f.Changes {
			if change.Before != change.After {
				fmt.Fprintf(o.Out, "  %s (%s)\n", change.Path, change.Before.Kind)
			}
		}
		return nil
	}
	if err := notFromInside(ctx, systemd.Of(units.Scope(f.Scope)), f.name().Service()); err != nil {
		return err
	}
	j, err := journal.Open(f.base, f.directory)
	if err != nil {
		return err
	}
	defer j.Close()
	if j.Phase == journal.Undone {
		return nil // by somebody else, meanwhile
	}
	fmt.Fprintf(o.Out, "giving back %s, adopted at %s\n", j.Old.Name, say.Clock(j.Begun))
	return back(context.WithoutCancel(ctx), j, o)
}

// back puts back everything that is in a journal. It can be interrupted and called again at any point: each of its steps looks
// at what is there.
func back(ctx context.Context, j *journal.Journal, o adopt.Options) error {
	scope := units.Scope(j.Scope)
	manager := systemd.Of(scope)
	complete := !j.Ended.IsZero()
	fail := func(err error) error {
		return fmt.Errorf("not everything is put back: %w; what was there is in %s, and `%s` goes on with it",
			err, j.Before(), commandFor(o, scope, instance.Name(j.Instance), "adopt", "--undo"))
	}
	// Before anything is stopped for it.
	if err := j.Restorable(); err != nil {
		return fail(err)
	}
	if err := j.Enter(journal.Undoing); err != nil && complete {
		return fail(err)
	} else if err != nil { // it is half done in any case, and a full disk is no reason to leave it so
		fmt.Fprintf(o.Advice, "%v: going on in spite of that\n", err)
	}
	if complete { // what depends on ours since
		more, err := companions(ctx, manager, j.Ours)
		if err != nil {
			return fail(err)
		}
		for _, unit := range more {
			if !slices.ContainsFunc(j.Companions, func(known journal.Unit) bool { return known.Name == unit.Name }) && !slices.Contains(j.Ours, unit.Name) {
				j.Companions = append(j.Companions, unit)
			}
		}
		if err := j.Save(); err != nil {
			fmt.Fprintf(o.Advice, "%v: going on in spite of that\n", err)
		}
	}
	if err := stopOurs(ctx, j, manager, complete, o); err != nil {
		return fail(err)
	}
	var failed []error
	if j.DotEnv != "" {
		switch err := unsetExternal(ctx, j.DotEnv, j.DotEnvUID); {
		case systemd.NoUser(err): // whose OpenClaw nobody runs
			fmt.Fprintf(o.Advice, "there is no user any more with the uid %d: %s is left as it is, if it is still there\n", j.DotEnvUID, j.DotEnv)
		case err != nil:
			failed = append(failed, err)
		}
	}
	if err := moveBack(ctx, j.Moved, complete, o); err != nil {
		failed = append(failed, err)
	}
	if j.NoState {
		for _, folder := range stateFolders(scope, instance.Name(j.Instance)) {
			failed = append(failed, state.Clear(folder))
		}
	}
	err := j.Restore(func(r journal.Restored) {
		if r.Left != "" {
			fmt.Fprintf(o.Advice, "%s stays: %s\n", r.Path, r.Left)
			return
		}
		fmt.Fprintf(o.Advice, "%s has changed since: what it was last is kept in %s\n", r.Path, r.Edited)
	})
	failed = append(failed, err)
	if j.NoState {
		for _, folder := range stateFolders(scope, instance.Name(j.Instance)) {
			_ = os.Remove(folder) // the link, or it is empty; else somebody has something in it
		}
	}
	if err := systemctl(ctx, scope, "daemon-reload"); err != nil {
		failed = append(failed, err)
	}
	if err := errors.Join(failed...); err != nil {
		return fail(err)
	}
	for _, unit := range append([]journal.Unit{j.Old}, j.Rivals...) {
		if err := startAgain(ctx, manager, scope, unit, o); err != nil {
			failed = append(failed, err)
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fail(err)
	}
	startAll(ctx, scope, j.Companions, o)
	// Last: without a session the manager ends soon.
	if j.Linger != "" {
		if err := run(ctx, "loginctl", "--no-ask-password", "disable-linger", j.Linger); err != nil {
			fmt.Fprintf(o.Advice, "the services of %s still run without a session, which they did not before: %v\n", j.Linger, err)
		}
	}
	if err := j.Enter(journal.Undone); err != nil {
		return fail(err)
	}
	fmt.Fprintf(o.Out, "%s is as it was before\n", j.Old.Name)
	return nil
}

// stopOurs stops our units, unless what has their name is still, or again, the old one.
func stopOurs(ctx context.Context, j *journal.Journal, manager systemd.Manager, complete bool, o adopt.Options) error {
	if len(j.Ours) == 0 {
		return nil
	}
	name, scope := instance.Name(j.Instance), units.Scope(j.Scope)
	known, err := manager.Show(ctx, []string{name.Service(), name.Socket()}, "LoadState", "ActiveState", "ExecStart", "TimeoutStopUSec", "CacheDirectory")
	if err != nil {
		return err
	}
	service, socket := known[0], known[1]
	runs := service["ActiveState"] != "inactive" && service["ActiveState"] != "failed"
	var ours []string
	// What has the service's name may be the old one, still or again; or what "openclaw gateway install" has written over ours.
	if startsOurs(service) || complete && runs {
		ours = append(ours, name.Service())
	}
	if socket["LoadState"] == "loaded" {
		ours = append(ours, name.Socket())
	}
	if len(ours) == 0 {
		return nil
	}
	if runs && startsOurs(service) {
		limit := ""
		if n, err := strconv.ParseUint(service["TimeoutStopUSec"], 10, 64); err == nil && n < math.MaxInt64/1000 {
			limit = ", for " + say.Duration(time.Duration(n)*time.Microsecond).String() + " at the most"
		}
		fmt.Fprintf(o.Out, "stopping %s: it may finish what it is about%s\n", name.Service(), limit)
	}
	// Together: with the service alone the next client would start it again.
	if err := systemctl(ctx, scope, append([]string{"stop"}, ours...)...); err != nil {
		return err
	}
	if complete {
		// "gateway install" may have enabled more than the adoption did.
		if err := systemctl(ctx, scope, append([]string{"disable"}, ours...)...); err != nil {
			return err
		}
	}
	if !startsOurs(service) {
		return nil
	}
	// What the launcher has made for itself, which is in nobody's way if it stays. systemd would empty the old unit's directories, too.
	if len(service.List("CacheDirectory")) == 1 {
		_ = systemctl(ctx, scope, "clean", "--what=cache", name.Service())
	}
	return nil
}

// stateFolders are where the launcher's state may be: a user's is beside the configuration, with a link to it since systemd 254.
func stateFolders(scope units.Scope, name instance.Name) []string {
	if scope == units.System {
		return []string{filepath.Join("/var/lib", name.Directory())}
	}
	base, err := journal.Base(true)
	settings, errToo := os.UserConfigDir()
	if err != nil || errToo != nil {
		return nil
	}
	return []string{filepath.Join(settings, name.Directory()), filepath.Join(filepath.Dir(base), name.Directory())}
}

// startAgain has a unit run that ran.
func startAgain(ctx context.Context, manager systemd.Manager, scope units.Scope, unit journal.Unit, o adopt.Options) error {
	if unit.Active == "inactive" || unit.Active == "failed" || unit.Active == "" {
		return nil
	}
	now, err := manager.Unit(ctx, unit.Name, "ActiveState", "User")
	if err != nil {
		return err
	}
	if now["ActiveState"] == "active" {
		return nil // it was never stopped
	}
	if _, err := systemd.Account(now["User"]); now["User"] != "" && systemd.NoUser(err) {
		fmt.Fprintf(o.Advice, "%s is not started, as whom it ran is no user any more: %s\n", unit.Name, now["User"])
		return nil
	}
	fmt.Fprintf(o.Out, "starting %s, as it ran before\n", unit.Name)
	// It may have been started so often that systemd would start it no more; whoever is loaded no more has no count.
	_ = systemctl(ctx, scope, "reset-failed", unit.Name)
	if unit.Active != "active" {
		// It was being started, again perhaps: nobody knows how that ends.
		return systemctl(ctx, scope, "start", "--no-block", unit.Name)
	}
	if err := systemctl(ctx, scope, "start", unit.Name); err != nil {
		return fmt.Errorf("%w; where somebody else has its port, `%s` says who", err, commandFor(o, scope, instance.Default, "status"))
	}
	return nil
}

// adopted says that a unit is adopted already; nil if it is not, or nobody has named one. It wraps [adopt.ErrNothing].
func adopted(o adopt.Options) error {
	for _, record := range inPlace(o) {
		if record.Old.Name == o.Unit || record.Old.Name == o.Unit+".service" {
			return fmt.Errorf("%w: %s was adopted at %s already", adopt.ErrNothing, record.Old.Name, say.Clock(record.Ended))
		}
	}
	return nil
}

// overwritten says that something else is in the place of what was adopted, such as what "openclaw gateway install" writes; nil if
// nothing is, or something else was asked for.
func overwritten(ctx context.Context, o adopt.Options) error {
	for _, record := range inPlace(o) {
		scope, name := units.Scope(record.Scope), instance.Name(record.Instance)
		if o.Name != "" && o.Name != name.String() || o.Unit != "" && o.Unit != name.Service() && o.Unit+".service" != name.Service() {
			continue
		}
		now, err := systemd.Of(scope).Unit(ctx, name.Service(), "ExecStart", "LoadState")
		if err == nil && now["LoadState"] == "loaded" && !startsOurs(now) {
			return fmt.Errorf("%s was adopted at %s, and another %s runs in its place again: `%s` gives back what was there first, which can be adopted then",
				record.Old.Name, say.Clock(record.Ended), name.Service(), commandFor(o, scope, name, "adopt", "--undo"))
		}
	}
	return nil
}

// inPlace are the adoptions that are complete, in the scopes of the caller's; what cannot be read counts for none.
func inPlace(o adopt.Options) (all []journal.Record) {
	for _, scope := range scopes(o) {
		base, err := journal.Base(scope == units.User)
		if err != nil {
			continue
		}
		for _, directory := range journal.All(base) {
			if record, err := journal.Look(base, directory); err == nil && record.Phase == journal.Adopted {
				all = append(all, record)
			}
		}
	}
	return all
}
