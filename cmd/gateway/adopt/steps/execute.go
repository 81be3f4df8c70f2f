package steps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/install"
	"openclaw-gateway/cmd/gateway/reclaim"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// adoption is one that is under way.
type adoption struct {
	*adopt.Plan
	name    instance.Name
	options adopt.Options
	out     io.Writer
	journal *journal.Journal
	manager systemd.Manager
	config  *config.Config

	units []install.File // of ours, and what goes with the configuration
	gap   *gap
}

// Execute carries a plan out. If a step fails, or the caller is told to end (SIGINT, SIGTERM, SIGHUP), it puts back what was
// there, and the error says why.
func Execute(ctx context.Context, plan *adopt.Plan, o adopt.Options) error {
	ctx, stop := untilTold(ctx)
	defer stop()
	a := &adoption{Plan: plan, name: instance.Name(plan.Instance), options: o, out: o.Out, manager: systemd.Of(plan.Scope)}
	base, err := journal.Base(plan.Scope == units.User)
	if err != nil {
		return err
	}
	for _, unit := range a.all() {
		if err := notFromInside(ctx, a.manager, unit.Name); err != nil {
			return err
		}
	}
	if a.journal, err = journal.Open(base, a.name.Directory()); err != nil {
		return err
	}
	defer a.journal.Close()
	if a.journal.Phase == journal.Adopted {
		return fmt.Errorf("%s was adopted at %s already: `%s` gives it back first", a.journal.Old.Name, say.Clock(a.journal.Ended), a.command("adopt", "--undo"))
	}
	record, err := a.record(ctx)
	if err != nil {
		return err
	}
	if err := a.journal.Begin(record); err != nil {
		return err
	}
	if err = a.carryOut(ctx); err == nil {
		err = a.journal.Enter(journal.Adopted)
	}
	if err != nil {
		if told := context.Cause(ctx); told != nil && ctx.Err() != nil {
			err = told
		}
		if a.journal.Untouched() {
			return errors.Join(fmt.Errorf("nothing is changed: %w", err), a.journal.Drop())
		}
		fmt.Fprintln(a.out, "that has come to nothing: putting back what was there")
		return errors.Join(fmt.Errorf("nothing is adopted: %w", err), back(context.WithoutCancel(ctx), a.journal, o))
	}
	a.tellWhatNow()
	return nil
}

// record is what the journal begins with: the units as they are now, as somebody may have thought about the plan for an hour.
func (a *adoption) record(ctx context.Context) (r journal.Record, err error) {
	r = journal.Record{Instance: string(a.Instance), Scope: string(a.Scope)}
	var names []string
	for _, unit := range a.all() {
		names = append(names, unit.Name)
	}
	found, err := a.manager.Show(ctx, names, "Id", "ActiveState")
	if err != nil {
		return r, err
	}
	for i, unit := range found {
		was := journal.Unit{Name: names[i], Active: unit["ActiveState"]}
		if i == 0 {
			r.Old = was
		} else {
			r.Rivals = append(r.Rivals, was)
		}
	}
	if r.Companions, err = companions(ctx, a.manager, names); err != nil {
		return r, err
	}
	r.NoState = true
	for _, folder := range stateFolders(a.Scope, a.name) {
		_, err := os.Lstat(folder)
		r.NoState = r.NoState && errors.Is(err, fs.ErrNotExist)
	}
	return r, nil
}

// carryOut does the steps. Up to the stop of the old unit nothing changes for anybody.
func (a *adoption) carryOut(ctx context.Context) error {
	for _, step := range []struct {
		what string // "" is told by the step itself
		do   func(context.Context) error
	}{
		{"keeping what is there in " + a.journal.Before(), a.keep},
		{"", a.makeUser},
		{"writing " + a.Configuration + " and what belongs to it", a.writeFiles},
		{"", a.intend},
		{"", func(ctx context.Context) error {
			if a.Move != nil {
				return nil // the file is copied when the old one has stopped
			}
			return a.markExternal(ctx)
		}},
		{"", a.keepRunning},
		{"", a.stopOld},
		{"", a.copyState},
		{"", a.reclaimPort},
		{"putting " + a.name.Service() + " and " + a.name.Socket() + " in the old one's place", a.replace},
		{"", a.open},
		{"", func(context.Context) error { return a.journal.Settle() }},
		{"", a.awaitAnswer},
		{"", a.startCompanions},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if step.what != "" {
			fmt.Fprintln(a.out, step.what)
		}
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (a *adoption) all() []adopt.Unit { return append([]adopt.Unit{a.Old}, a.Rivals...) }

func (a *adoption) keep(context.Context) error {
	var paths []string
	for _, unit := range a.all() {
		paths = append(paths, unit.Aside...)
	}
	for _, file := range a.Files {
		paths = append(paths, file.Path)
	}
	return a.journal.Keep(paths...)
}

// writeFiles writes what does not lie in the folder of a unit, and makes the units ready.
func (a *adoption) writeFiles(context.Context) error {
	for _, file := range a.Files {
		content, err := os.ReadFile(file.Path)
		if err == nil && !bytes.Equal(content, file.Content) && !a.isAside(file.Path) {
			return fmt.Errorf("%s has come to be there meanwhile, and is not what was to be written: look at it, then run this again", file.Path)
		}
		if file.Kind == adopt.DropInFile {
			continue
		}
		if err := a.write(file); err != nil {
			return err
		}
	}
	var err error
	if a.config, err = config.Load(a.Configuration); err != nil {
		return err
	}
	in := &install.Installer{
		Executable: os.Executable, EUID: os.Geteuid,
		System: a.Scope == units.System, User: a.Scope == units.User, Name: a.name, RunAs: a.RunAs, Config: a.Configuration,
		Out: a.out, Advice: a.options.Advice,
	}
	a.units, err = in.Files()
	return err
}

// isAside reports whether a path is to be cleared.
func (a *adoption) isAside(path string) bool {
	return slices.ContainsFunc(a.all(), func(unit adopt.Unit) bool {
		return slices.ContainsFunc(unit.Aside, func(aside string) bool { return path == aside || strings.HasPrefix(path, aside+"/") })
	})
}

func (a *adoption) write(file adopt.File) error {
	if file.Kind == adopt.DropInFile {
		return a.journal.Write(file.Path, file.Content, file.Mode, os.Geteuid(), os.Getegid())
	}
	return a.journal.Write(file.Path, file.Content, file.Mode, file.UID, file.GID)
}

// markExternal has OpenClaw's own commands know that somebody else supervises it.
func (a *adoption) markExternal(ctx context.Context) error {
	if a.DotEnv == "" {
		return nil
	}
	there, err := isExternal(ctx, a.DotEnv, a.DotEnvUID)
	if err != nil || there {
		return err
	}
	fmt.Fprintf(a.out, "writing OPENCLAW_SUPERVISOR_MODE=external into %s\n", a.DotEnv)
	a.journal.DotEnv, a.journal.DotEnvUID = a.DotEnv, a.DotEnvUID
	if err := a.journal.Save(); err != nil {
		return err
	}
	return setExternal(ctx, a.DotEnv, a.DotEnvUID)
}

// keepRunning has a user's units run without a session. Where that is refused they end with the last one, as the old ones did.
func (a *adoption) keepRunning(ctx context.Context) error {
	if a.Linger == "" || !systemd.SessionsOnly(a.Linger) {
		return nil
	}
	a.journal.Linger = a.Linger
	if err := a.journal.Save(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "having the services of %s run without a session (loginctl enable-linger)\n", a.Linger)
	if err := run(ctx, "loginctl", "--no-ask-password", "enable-linger", a.Linger); err != nil {
		fmt.Fprintf(a.options.Advice, "they will end when you log out, as %s did, unless you run: %s (%v)\n",
			a.Old.Name, systemd.As(os.Geteuid(), 0, "loginctl", "enable-linger", a.Linger), err)
		a.journal.Linger = ""
		return a.journal.Save()
	}
	return nil
}

// stopOld stops what has the port. It stays the unit that it is until it has stopped: its own settings say how, and how long
// that may take.
func (a *adoption) stopOld(ctx context.Context) error {
	a.gap = watchGap(a.Listen)
	var with []string
	for _, unit := range a.journal.Companions {
		with = append(with, unit.Name)
	}
	if len(with) > 0 {
		fmt.Fprintf(a.out, "what depends on it is stopped with it: %s\n", say.List(with))
	}
	open := 0
	for _, address := range a.Listen {
		n, _ := sockdiag.Connections(address) // it is only told
		open += n
	}
	for _, unit := range a.all() {
		now, err := a.manager.Unit(ctx, unit.Name, "ActiveState")
		if err != nil {
			return err
		}
		if state := now["ActiveState"]; state == "inactive" || state == "failed" {
			continue
		}
		most := "however long that takes"
		if unit.StopTime > 0 {
			most = "for " + say.Duration(unit.StopTime).String() + " at the most"
		}
		fmt.Fprintf(a.out, "stopping %s: it may finish what it is about, %s (TimeoutStopSec=); %s open\n", unit.Name, most, say.Count(open, "connection"))
		late := time.AfterFunc(patience, func() {
			fmt.Fprintf(a.out, "%s has not ended yet: `%s` ends it now\n", unit.Name, a.manager.Command(os.Geteuid(), "kill", "--signal=KILL", unit.Name))
		})
		err = a.systemctl(ctx, "stop", unit.Name)
		late.Stop()
		if err != nil {
			return err
		}
	}
	a.gap.stopped()
	return nil
}

// patience is after what time somebody is told how to go on at once.
const patience = 5 * time.Second

// reclaimPort ends the orphans that have the port, as the socket unit does, but so that it can be seen.
func (a *adoption) reclaimPort(ctx context.Context) error {
	held := false
	for _, address := range a.Listen {
		sockets, err := sockdiag.Blocking(address)
		if err != nil {
			return err
		}
		held = held || len(sockets) > 0
	}
	if !held || !a.Running {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reclaimLimit)
	defer cancel()
	teller := &reclaim.Teller{Out: a.out, Err: a.options.Advice, Addresses: a.Listen, By: a.options.By}
	result, err := reclaim.Run(ctx, a.Listen, reclaim.Options{Unbound: true, Tell: teller.Event})
	if err != nil {
		return err
	}
	if len(result.Obstacles) > 0 {
		teller.Result(result)
		return fmt.Errorf("%s is held by somebody else", say.Addresses(a.Listen))
	}
	return nil
}

// reclaimLimit is as for the command.
const reclaimLimit = 18 * time.Second

// intend writes down what will be done when the old unit has stopped, and clients wait.
func (a *adoption) intend(context.Context) error {
	if err := a.journal.Intend(a.replaceFiles); err != nil {
		return err
	}
	a.journal.Ours = []string{a.name.Socket(), a.name.Service()}
	return a.journal.Save()
}

// replaceFiles clears the old unit's place and puts ours there.
func (a *adoption) replaceFiles() error {
	for _, unit := range a.all() {
		for _, path := range unit.Aside {
			if err := a.journal.Remove(path); err != nil {
				return err
			}
		}
		if unit.Mask {
			if err := a.journal.Link(filepath.Join(a.unitDir(), unit.Name), os.DevNull); err != nil {
				return err
			}
		}
	}
	for _, file := range a.Files {
		if file.Kind != adopt.DropInFile {
			continue
		}
		if err := a.write(file); err != nil {
			return err
		}
	}
	const mode = 0o644 // everybody may read units
	for _, file := range a.units {
		if err := a.journal.Write(file.Path, file.Content, mode, os.Geteuid(), os.Getegid()); err != nil {
			return err
		}
		if !a.enabled(filepath.Base(file.Path)) {
			continue
		}
		for _, wanted := range wantedBy(file.Content) {
			link := filepath.Join(filepath.Dir(file.Path), wanted+".wants", filepath.Base(file.Path))
			if err := a.journal.Link(link, file.Path); err != nil {
				return err
			}
		}
	}
	return nil
}

// replace has ours be in the old one's place, and systemd know it before anything can start it.
func (a *adoption) replace(ctx context.Context) error {
	if err := a.journal.Hurry(a.replaceFiles); err != nil {
		return err
	}
	if err := a.systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	// The socket starts whatever has the service's name.
	known, err := a.manager.Unit(ctx, a.name.Service(), "ExecStart", "LoadState", "FragmentPath")
	if err != nil {
		return err
	}
	if !startsOurs(known) {
		return fmt.Errorf("systemd has another %s than the one that was written (%s, %s)", a.name.Service(), known["LoadState"], known["FragmentPath"])
	}
	return nil
}

// enabled reports whether a unit of ours is to be started at boot.
func (a *adoption) enabled(unit string) bool {
	switch unit {
	case a.name.Socket():
		return a.AtBoot
	case a.name.Service():
		return a.config.Worker.Start == config.StartAtOnce // with the socket, whoever starts that
	}
	return false
}

func (a *adoption) unitDir() string {
	for _, file := range a.units {
		if filepath.Base(file.Path) == a.name.Service() {
			return filepath.Dir(file.Path)
		}
	}
	return ""
}

// wantedBy returns the units that have a unit of ours started, going by its [Install].
func wantedBy(unit []byte) (all []string) {
	for line := range bytes.Lines(unit) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(string(line)), "WantedBy="); ok {
			all = append(all, strings.Fields(list)...)
		}
	}
	return all
}

// startsOurs reports whether a service as systemd has it starts the launcher.
func startsOurs(service systemd.Properties) bool {
	argv := service.List("ExecStart")
	return len(argv) > 1 && argv[1] == "run" && slices.Contains(argv, "--config")
}

// open opens the port.
func (a *adoption) open(ctx context.Context) error {
	if !a.Running {
		return nil
	}
	if err := a.systemctl(ctx, "start", a.name.Socket()); err != nil {
		return fmt.Errorf("%w; `%s` says more", err, a.command("logs", "-n", "20"))
	}
	fmt.Fprintf(a.out, "%s %s open: %s\n", say.Addresses(a.Listen), say.Are(len(a.Listen)), a.gap.told(ctx, a.manager, a.name.Socket()))
	return nil
}

// command is one of ours, for the caller to type.
func (a *adoption) command(verb string, more ...string) string {
	return commandFor(a.options, a.Scope, a.name, verb, more...)
}

func commandFor(o adopt.Options, scope units.Scope, name instance.Name, verb string, more ...string) string {
	argv := []string{o.By.Program, verb}
	if slices.Contains(more, "--undo") {
		argv, more = append(argv, "--undo"), slices.DeleteFunc(slices.Clone(more), func(word string) bool { return word == "--undo" })
	}
	argv = append(argv, "--"+string(scope))
	if name != instance.Default {
		argv = append(argv, "--name", string(name))
	}
	if verb == "logs" {
		return systemd.Of(scope).Logs(os.Geteuid(), name.Service(), argv, more...)
	}
	return systemd.Of(scope).As(os.Geteuid(), append(argv, more...)...)
}

func (a *adoption) tellWhatNow() {
	if !a.Running {
		fmt.Fprintf(a.out, "%s is adopted, and as %s it does not run: `%s` opens the port\n", a.Old.Name, a.Old.Name, a.command("start"))
	} else {
		fmt.Fprintf(a.out, "%s is adopted; `%s` says how it is\n", a.Old.Name, a.command("status"))
	}
	fmt.Fprintf(a.out, "what was there is kept in %s; `%s` gives it back\n", a.journal.Before(), a.command("adopt", "--undo"))
}

// untilTold ends the context when this process is told to end. Who reads along may go away: that is no reason to stop half way.
func untilTold(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, unix.SIGPIPE)
	go func() {
		select {
		case s := <-told:
			cancel(fmt.Errorf("this was told to end by %s", say.Signal(s.(unix.Signal))))
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(told)
		signal.Stop(ignored)
		cancel(nil)
	}
}
