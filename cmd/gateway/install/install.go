package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Installer is what "gateway install" and "gateway uninstall" were asked for. The functions stand for the operating
// system, so that a test can be somebody else.
type Installer struct {
	Executable func() (string, error)
	EUID       func() int

	System, User bool
	Name         instance.Name
	RunAs        string
	Config       string
	Root         string
	Now, AtBoot  bool
	Hardened     *bool // nil: as the installed service is
	External     *bool // whether OpenClaw's own commands are kept from the units; nil: a terminal is asked
	DryRun       bool

	In          io.Reader // where a person answers
	Out, Advice io.Writer // results, and everything else
}

// installation is what is about to be installed, after everything that can be refused without asking systemd.
type installation struct {
	scope   units.Scope
	account *user.User // the user the service runs as; nil: whoever runs the manager, or one of another system
	program string
	config  string // its path, and whether it is there
	found   bool
	hello   bool          // it names no command
	worker  config.Worker // what it names
	unread  bool          // it is not known, because the configuration is gone or wrong
	atBoot  bool          // the service is to start with the socket
	schema  *units.Change // nil: none goes with the configuration
	changes []units.Change
	example []byte // the configuration to begin with

	listen    []netaddr.Address
	dualStack bool

	hardened, wasHardened bool // the service, and the installed one
}

// Install writes the units of a scope, and a configuration if there is none.
func (in *Installer) Install(ctx context.Context) error {
	to, err := in.prepare(ctx)
	if err != nil {
		return err
	}
	in.noteHardening(to)
	if in.DryRun {
		return errors.Join(in.printDiffs(to), in.leaveToUs(ctx, to))
	}
	active, err := in.active(ctx, to.scope)
	if err != nil {
		return err
	}
	if in.Now && active.service && !active.socket {
		return fmt.Errorf("%s runs without its socket, which systemd cannot start meanwhile: stop it with %q, then run this again",
			in.Name.Service(), systemd.Of(to.scope).Own("stop", in.Name.Service()))
	}
	if err := in.write(to); err != nil {
		return err
	}
	if to.account != nil {
		in.noteAccess(to.account, to.config, unix.R_OK, "read the configuration")
		in.noteAccess(to.account, to.program, unix.X_OK, "run the program")
	}
	if err := in.activate(ctx, to, active); err != nil {
		return err
	}
	in.noteEffects(to, active)
	in.noteOverrides(ctx, to.scope)
	in.noteLinger(to.scope)
	if to.hello && in.Root == "" {
		say.Tell(in.Advice, "clients will meet the built-in hello server, until worker.command in %s says what to run", in.below(to.config))
	}
	if err := in.leaveToUs(ctx, to); err != nil {
		return err
	}
	if in.Now {
		return nil
	}
	if names := in.unstarted(ctx, to); len(names) > 0 {
		fmt.Fprintf(in.Out, "next: %s\n", systemd.Of(to.scope).Own(append([]string{"enable", "--now"}, names...)...))
	}
	return nil
}

func (in *Installer) prepare(ctx context.Context) (to installation, err error) {
	if to.scope, err = in.scope("install"); err != nil {
		return to, err
	}
	dir, err := in.unitDir(to.scope)
	if err != nil {
		return to, err
	}
	// To run it again must not turn the service into root's, nor to another configuration.
	installed, err := units.Chosen(in.Root, dir, in.Name)
	if err != nil {
		return to, err
	}
	if err := in.saysWho(to.scope, dir); err != nil {
		return to, err
	}
	if err := in.refuseOther(to.scope, installed); err != nil {
		return to, err
	}
	neighbours, err := in.neighbours(ctx, to.scope, dir)
	if err != nil {
		return to, err
	}
	to.example = in.example(neighbours)
	in.RunAs, in.Config = cmp.Or(in.RunAs, installed.RunAs), cmp.Or(in.Config, installed.Config)
	to.hardened, to.wasHardened = installed.Hardened, installed.Hardened
	if in.Hardened != nil {
		to.hardened = *in.Hardened
	}
	files, err := in.render(&to)
	if err != nil {
		return to, err
	}
	if err := refuseTaken(&to, neighbours); err != nil {
		return to, err
	}
	if err := in.refuseListening(ctx, &to); err != nil {
		return to, err
	}
	if err := in.refuseShared(ctx, &to, neighbours); err != nil {
		return to, err
	}
	to.changes, err = units.Plan(in.Root, dir, files)
	return to, err
}

// Files returns what Install would write beside the configuration, which has to be there: the units, and what goes with the
// configuration. It is for who has another unit's place cleared for ours, so nothing that lies there matters.
func (in *Installer) Files() (all []File, err error) {
	to := installation{example: config.Example}
	if to.scope, err = in.scope("install"); err != nil {
		return nil, err
	}
	dir, err := in.unitDir(to.scope)
	if err != nil {
		return nil, err
	}
	files, err := in.render(&to)
	if err != nil {
		return nil, err
	}
	if to.schema != nil {
		all = append(all, File{to.schema.Path, to.schema.New})
	}
	for _, file := range files {
		all = append(all, File{filepath.Join(dir, file.Name), file.Content})
	}
	return all, nil
}

// File is one that everybody may read.
type File struct {
	Path    string
	Content []byte
}

// render makes the units of what was asked for.
func (in *Installer) render(to *installation) (files []units.File, err error) {
	if to.account, err = in.account(to.scope); err != nil {
		return nil, err
	}
	if to.program, err = in.program(to.scope); err != nil {
		return nil, err
	}
	if to.config, err = in.configPath(to.scope); err != nil {
		return nil, err
	}
	settings, found, err := in.loadConfig(to.config, to.example)
	if err != nil {
		return nil, err
	}
	to.found, to.hello, to.worker = found, len(settings.Worker.Command) == 0, settings.Worker
	to.atBoot = in.AtBoot || settings.Worker.Start == config.StartAtOnce
	content := settings.Content
	others := in.othersOf(filepath.Dir(to.config))
	if !found {
		content = to.example
		if others != nil {
			return nil, fmt.Errorf("%s is not there, and root does not write it, because others than root decide where that is: %s %s; "+
				"write it as that user, or leave --config away", to.config, others.At, others.Why)
		}
	}
	if others == nil { // root writes nothing beside another user's file
		if to.schema, err = in.planSchema(to.config, content); err != nil {
			return nil, err
		}
	}
	to.dualStack = settings.DualStack
	for _, address := range settings.Listen {
		if others := in.othersOf(filepath.Dir(address.Path())); address.IsUnix() && others != nil {
			return nil, fmt.Errorf("nothing is installed: %s of %s", systemd.Elsewhere(address, others, in.Name), to.config)
		}
	}
	if to.listen, err = in.bindable(settings.Listen); err != nil {
		return nil, err
	}
	params := units.Params{
		Name:       in.Name,
		Scope:      to.scope,
		Executable: to.program,
		// Always by name: a launcher that runs as somebody would prefer a configuration in that user's home.
		Config:      to.config,
		RunAs:       in.RunAs,
		Listen:      to.listen,
		DualStack:   settings.DualStack,
		Access:      settings.Access,
		StopTimeout: settings.Stop.Timeout,
		Hardened:    to.hardened,
	}
	if to.hardened {
		if params.Home, err = in.home(*to); err != nil {
			return nil, err
		}
		if settings.Worker.Directory != "" {
			params.Writable = []string{settings.Worker.Directory}
		}
	}
	return units.Render(params)
}

// bindable leaves out, and says, what this machine's systemd could not bind; below --root another kernel will run.
func (in *Installer) bindable(listen []netaddr.Address) ([]netaddr.Address, error) {
	if in.Root != "" {
		return listen, nil
	}
	if address, found := systemd.Unremovable(listen); found {
		return nil, fmt.Errorf("%s is there and no socket, and systemd would remove it: name another path in listen, or remove it yourself", address.Path())
	}
	can, cannot := systemd.Bindable(listen)
	switch {
	case len(can) == 0:
		return nil, fmt.Errorf("this kernel has no IPv6, and listen is %s: add an IPv4 address, such as 127.0.0.1:%d", say.Addresses(listen), listen[0].Port())
	case len(cannot) > 0:
		say.Tell(in.Advice, "this kernel has no IPv6: %s of listen %s left out of the socket unit", say.Addresses(cannot), say.Are(len(cannot)))
	}
	return can, nil
}

func (in *Installer) write(to installation) error {
	if !to.found {
		if err := in.writeConfig(to.config, to.example, to.account); err != nil {
			return err
		}
		fmt.Fprintf(in.Out, "created %s\n", in.below(to.config))
	}
	if err := in.writeSchema(to.schema); err != nil {
		return err
	}
	if err := units.Apply(in.Root, to.changes); err != nil {
		return err
	}
	done := map[units.Kind]string{units.Create: "created", units.Update: "updated", units.Unchanged: "unchanged"}
	for _, change := range to.changes {
		fmt.Fprintf(in.Out, "%s %s\n", done[change.Kind], in.below(change.Path))
		if change.Kind == units.Update {
			fmt.Fprint(in.Advice, change.Diff())
		}
	}
	return nil
}

// Uninstall stops, disables and removes the units of a scope.
func (in *Installer) Uninstall(ctx context.Context) error {
	scope, err := in.scope("uninstall")
	if err != nil {
		return err
	}
	dir, err := in.unitDir(scope)
	if err != nil {
		return err
	}
	installed, foreign := units.Installed(in.Root, dir, in.Name)
	if len(installed) == 0 {
		if foreign == nil && in.Name != instance.Default && in.Root == "" {
			return client.Of(scope, in.Name).Unknown(ctx)
		}
		if foreign == nil {
			say.Tell(in.Advice, "there are no units of the %s scope in %s", scope, in.below(dir))
		}
		return foreign
	}
	chosen, _ := units.Chosen(in.Root, dir, in.Name) // nothing of a service that is foreign: it stays, and Remove says so
	if in.Root == "" {
		// Only what is ours: a foreign service of that name goes on running.
		args := []string{"disable", "--now"}
		for _, path := range installed {
			args = append(args, filepath.Base(path))
		}
		if err := units.Systemctl(ctx, scope, args...); err != nil {
			return fmt.Errorf("nothing is removed: %w", err)
		}
	}
	removed, removeErr := units.Remove(in.Root, dir, in.Name)
	for _, path := range removed {
		fmt.Fprintf(in.Out, "removed %s\n", in.below(path))
	}
	if in.Root == "" {
		if err := units.Systemctl(ctx, scope, "daemon-reload"); err != nil {
			removeErr = errors.Join(removeErr, err)
		}
	}
	in.RunAs = chosen.RunAs
	removeErr = errors.Join(removeErr, in.giveBack(ctx, installation{scope: scope, config: chosen.Config}))
	say.Tell(in.Advice, "the configuration stays: %s", in.below(cmp.Or(chosen.Config, config.DefaultPath(scope == units.User, in.Name))))
	return removeErr
}

// scope says which scope was asked for, and refuses a caller who cannot change it.
func (in *Installer) scope(verb string) (units.Scope, error) {
	if verb == "install" {
		in.repeat()
	}
	if in.System == in.User {
		return "", fmt.Errorf("%w: say which units: %s for the machine's, or %s for your own", ErrUsage, in.command(verb, "--system"), in.command(verb, "--user"))
	}
	if in.Root != "" {
		root, err := filepath.Abs(in.Root)
		if err != nil {
			return "", fmt.Errorf("find --root: %w", err)
		}
		in.Root = root
	}
	changesHost := in.Root == "" && !in.DryRun
	if in.User {
		if changesHost && in.EUID() == 0 && os.Getenv("SUDO_USER") != "" && os.Getenv("SUDO_UID") != "0" {
			return "", in.underSudo(verb)
		}
		return units.User, nil
	}
	if changesHost && in.EUID() != 0 && verb == "install" {
		return "", in.notRoot()
	}
	if changesHost && in.EUID() != 0 {
		return "", fmt.Errorf("the machine's units are root's: run \"sudo %s\", or use --user for your own", in.command(verb, "--system"))
	}
	return units.System, nil
}

// notRoot refuses to install for the machine as another user than root, and has the whole command line that root is to run. sudo does
// not look where that user has this program.
func (in *Installer) notRoot() error {
	program, err := in.program(units.System)
	if err != nil {
		return err
	}
	return fmt.Errorf("the machine's units are root's: run `%s`, or use --user for your own", systemd.As(in.EUID(), 0, in.again(program, in.RunAs)...))
}

// command is one of this program about the instance.
func (in *Installer) command(verb string, options ...string) string {
	return say.Shell(slices.Concat([]string{"gateway", verb}, options, in.Name.Flag())...)
}

// underSudo refuses to do for root what is meant for the user who has become root, by sudo -i perhaps: a shell of root's.
func (in *Installer) underSudo(verb string) error {
	uid, err := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil {
		return fmt.Errorf("--user under sudo is about root's own units: run %q as the user whose they are", in.command(verb, "--user"))
	}
	argv := append([]string{"gateway", verb, "--user"}, in.Name.Flag()...)
	if verb == "install" {
		argv = append(argv, in.options()...)
	}
	return fmt.Errorf("--user under sudo is about root's own units: run `%s`", systemd.Manager{User: true, UID: uid}.As(in.EUID(), argv...))
}

// repeat chooses the only scope in which there are units of ours, where nobody has said which.
func (in *Installer) repeat() {
	if in.System || in.User {
		return
	}
	in.System, in.User = in.has(units.System), in.has(units.User)
	if in.System != in.User {
		scope := map[bool]units.Scope{true: units.System, false: units.User}[in.System]
		fmt.Fprintf(in.Advice, "as before: --%s\n", scope)
	}
}

func (in *Installer) has(scope units.Scope) bool {
	dir, err := units.Dir(scope)
	if err != nil {
		return false
	}
	installed, _ := units.Installed(in.Root, dir, in.Name)
	return len(installed) > 0
}

// ErrUsage is wrapped by the errors of whoever has not said all that there is to say.
var ErrUsage = errors.New("the command line is not right")

// saysWho refuses to make the launcher root's where nobody has said so, now or when the units were written.
func (in *Installer) saysWho(scope units.Scope, dir string) error {
	if scope != units.System || in.RunAs != "" {
		return nil
	}
	installed, err := units.Installed(in.Root, dir, in.Name)
	if err != nil || slices.Contains(installed, filepath.Join(dir, in.Name.Service())) {
		return nil // Plan says what is wrong
	}
	as := func(name string) string {
		return systemd.As(in.EUID(), 0, in.again("gateway", name)...)
	}
	return fmt.Errorf("%w: without --run-as the launcher and its worker would be root: run `%s` with the user that the worker needs, "+
		"or `%s` if root is meant", ErrUsage, as(cmp.Or(os.Getenv("SUDO_USER"), "USER")), as("root"))
}

// again is this very command line, for another program and with a user to run as; "": nobody has said which.
func (in *Installer) again(program, runAs string) []string {
	argv := append([]string{program, "install", "--system"}, in.Name.Flag()...)
	if runAs != "" {
		argv = append(argv, "--run-as", runAs)
	}
	return append(argv, in.options()...)
}

// options are those of this command line that are not about a scope.
func (in *Installer) options() (argv []string) {
	if in.Config != "" {
		argv = append(argv, "--config", in.Config)
	}
	if in.Hardened != nil {
		argv = append(argv, fmt.Sprintf("--hardened=%t", *in.Hardened))
	}
	if in.External != nil {
		argv = append(argv, fmt.Sprintf("--external=%t", *in.External))
	}
	if in.Now {
		argv = append(argv, "--now")
	}
	if in.AtBoot {
		argv = append(argv, "--at-boot")
	}
	return argv
}

// unitDir is where the units are, which must be a folder of root's alone for root.
func (in *Installer) unitDir(scope units.Scope) (string, error) {
	dir, err := units.Dir(scope)
	if err != nil {
		return "", err
	}
	if others := in.othersOf(dir); others != nil {
		return "", fmt.Errorf("root writes no units where others than root can put other ones: %s %s", others.At, others.Why)
	}
	return dir, nil
}

// othersOf says who else than root can put another file at a path; nil where that does not matter, because it is not root who
// asks, or because root writes below a root of its own, which no link leads out of.
func (in *Installer) othersOf(path string) *read.OthersError {
	if in.EUID() != 0 || in.Root != "" && in.Root != "/" {
		return nil
	}
	others, _ := errors.AsType[*read.OthersError](read.OnlyRoots(path))
	return others
}

// below returns where a path of the system really lies.
func (in *Installer) below(path string) string {
	return filepath.Join("/", in.Root, path)
}

// account finds the user that the service runs as; nil if that is whoever runs the manager. Below --root the users are
// those of another system.
func (in *Installer) account(scope units.Scope) (*user.User, error) {
	if in.RunAs != "" && scope != units.System {
		return nil, fmt.Errorf("%w: --run-as goes with --system only: a user's own units run as that user", ErrUsage)
	}
	if in.RunAs == "root" {
		in.RunAs = "" // as whoever runs the manager
	}
	if in.RunAs == "" || in.Root != "" {
		return nil, nil
	}
	account, err := systemd.Account(in.RunAs)
	if err != nil {
		return nil, fmt.Errorf("--run-as %s: %w; create the user first, or name another", in.RunAs, err)
	}
	return account, nil
}

// home is where a hardened worker in system scope may write.
func (in *Installer) home(to installation) (string, error) {
	switch {
	case to.scope == units.User:
		return "", nil // its manager knows
	case to.account != nil:
		return to.account.HomeDir, nil
	case in.RunAs != "" && in.RunAs != "root":
		return "", fmt.Errorf("--hardened lets the worker write to the home directory of the user %s, which nobody knows here: run it on the system itself, without --root", in.RunAs)
	default:
		return "/root", nil
	}
}

// noteHardening says what a change of --hardened costs, or gives back.
func (in *Installer) noteHardening(to installation) {
	again := in.command("install", "--"+string(to.scope)) + " --hardened"
	switch {
	case to.hardened && !to.wasHardened:
		fmt.Fprintf(in.Advice, `hardened: from its next start on, the worker and all that it starts
  - get no rights by sudo, su or another setuid program
  - write to the home directory of their user, worker.directory, /tmp and /var/tmp alone, readable for that user alone
  - see no other users' processes, and no memory, load or processors of the machine (free, uptime, os.cpus of Node.js)
  - use no devices but terminals, and no containers, mounts or ptrace of their own
take it back with: %s=false
`, again)
	case !to.hardened && to.wasHardened:
		fmt.Fprintf(in.Advice, "no longer hardened, from the next start on; again with: %s\n", again)
	}
}

func (in *Installer) configPath(scope units.Scope) (string, error) {
	if in.Config != "" {
		path, err := filepath.Abs(in.Config)
		if err != nil {
			return "", fmt.Errorf("find --config: %w", err)
		}
		return path, nil
	}
	path := config.DefaultPath(scope == units.User, in.Name)
	if path == "" {
		return "", errors.New("you have no home directory in which the configuration could lie: set HOME, or name a file with --config")
	}
	return path, nil
}

// loadConfig reads the configuration on which the units depend. Without one they are made for the example that is about
// to be written, which shows the defaults.
func (in *Installer) loadConfig(path string, example []byte) (settings *config.Config, found bool, err error) {
	full := in.below(path)
	switch _, err := os.Stat(full); {
	case errors.Is(err, fs.ErrNotExist):
		if in.Name == instance.Default || example == nil {
			return config.Default(), false, nil
		}
		settings, err = config.Parse(path, example) // another port
		return settings, false, err
	case err != nil:
		return nil, false, fmt.Errorf("look at the configuration: %w", err)
	}
	settings, err = config.Load(full)
	if err != nil {
		return nil, false, fmt.Errorf("nothing is installed, because the configuration has to be right first: %w", err)
	}
	return settings, true, nil
}

// goCache is the directory of a program in the cache of the go command: $GOCACHE/ab/abcdef…-d.
var goCache = lazy.Regexp(`/[0-9a-f]{2}/[0-9a-f]{64}-d/[^/]+$`)

// program returns the path that goes into the units: this program, where it really lies. The system's socket unit runs it as
// root: whoever can replace it would be root.
func (in *Installer) program(scope units.Scope) (string, error) {
	path, err := in.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program's own file: %w", err)
	}
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", fmt.Errorf("find this program's own file: %w", err)
	}
	isGoBuild := func(part string) bool { return strings.HasPrefix(part, "go-build") }
	if goCache().MatchString(resolved) || slices.ContainsFunc(strings.Split(resolved, "/"), isGoBuild) {
		return "", fmt.Errorf("this program lies in %s, which the go command removes: build it with \"go build -o gateway ./cmd/gateway\", move it to a lasting place such as /usr/local/bin, and run it from there",
			filepath.Dir(resolved))
	}
	if others, _ := errors.AsType[*read.OthersError](read.OnlyRoots(resolved)); scope == units.System && others != nil && (in.Root == "" || in.Root == "/") {
		steps, path := systemd.Secure(in.EUID(), resolved, others)
		again := systemd.As(in.EUID(), 0, in.again(path, in.RunAs)...)
		return "", fmt.Errorf("%w, and the system's units start it as root: run `%s`", others, strings.Join(append(steps, again), " && "))
	}
	return resolved, nil
}

func (in *Installer) printDiffs(to installation) error {
	changes := to.changes
	if to.schema != nil {
		changes = append([]units.Change{*to.schema}, changes...)
	}
	if !to.found {
		changes = append([]units.Change{{Path: to.config, Kind: units.Create, New: to.example}}, changes...)
	}
	changed := false
	for _, change := range changes {
		if change.Kind == units.Unchanged {
			continue
		}
		changed = true
		if _, err := io.WriteString(in.Out, change.Diff()); err != nil {
			return fmt.Errorf("print the difference: %w", err)
		}
	}
	if !changed {
		fmt.Fprintln(in.Advice, "nothing would change")
	}
	return nil
}

// activeUnits says which of the units systemd has running before anything is changed.
type activeUnits struct{ socket, service bool }

func (in *Installer) active(ctx context.Context, scope units.Scope) (activeUnits, error) {
	if in.Root != "" {
		return activeUnits{}, nil
	}
	socket, err := unitIsActive(ctx, scope, in.Name.Socket())
	if err != nil {
		return activeUnits{}, err
	}
	service, err := unitIsActive(ctx, scope, in.Name.Service())
	return activeUnits{socket: socket, service: service}, err
}

func unitIsActive(ctx context.Context, scope units.Scope, unit string) (bool, error) {
	err := units.Systemctl(ctx, scope, "is-active", "--quiet", unit)
	if err == nil {
		return true, nil
	}
	// systemctl(1), "Exit status": 3 is not active, 4 is no such unit; systemctl cannot reach its manager with 1.
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() == 3 || exit.ExitCode() == 4) {
		return false, nil
	}
	return false, fmt.Errorf("nothing is changed, because systemd cannot be asked: %w; to write the files alone use --root /", err)
}

// writeConfig writes the example for the service's user alone, because worker.environment may come to hold secrets. It
// never replaces a file.
func (in *Installer) writeConfig(path string, example []byte, account *user.User) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write the configuration %s: %w", path, err)
		}
	}()
	dir, err := units.OpenDir(in.Root, filepath.Dir(path), true)
	if err != nil {
		return err
	}
	defer dir.Close()
	name := filepath.Base(path)
	file, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err != nil {
			err = errors.Join(err, dir.Remove(name))
		}
	}()
	if account != nil {
		uid, err := strconv.Atoi(account.Uid)
		if err != nil {
			return err
		}
		gid, err := strconv.Atoi(account.Gid)
		if err != nil {
			return err
		}
		if err := file.Chown(uid, gid); err != nil {
			return err
		}
	} else if in.RunAs != "" {
		say.Tell(in.Advice, "give %s to the user %s on the system where it will be used; it is readable by its owner only", path, in.RunAs)
	}
	_, err = file.Write(example)
	return err
}

// activate makes systemd read the units, and enables and starts what was asked for. It enables first, so that "gateway start" is
// all that is left to do if a start fails.
func (in *Installer) activate(ctx context.Context, to installation, active activeUnits) error {
	if in.Root != "" {
		return nil
	}
	var wanted []string
	if in.Now {
		wanted = append(wanted, in.Name.Socket())
	}
	if to.atBoot {
		wanted = append(wanted, in.Name.Service())
	}
	calls := [][]string{{"daemon-reload"}}
	if len(wanted) > 0 {
		calls = append(calls, append([]string{"enable"}, wanted...))
	}
	if to.socketChanged("WantedBy=") && units.Systemctl(ctx, to.scope, "is-enabled", "--quiet", in.Name.Socket()) == nil {
		// To enable it adds the new link, and leaves the old one.
		calls = append(calls, []string{"reenable", in.Name.Socket()})
	}
	if active.socket && to.listenChanged() {
		// With the reload systemd has let go of the addresses that are no longer
		// listed. The service follows, because it requires the socket.
		calls = append(calls, []string{"restart", in.Name.Socket()})
	}
	if in.Now {
		calls = append(calls, append([]string{"start"}, wanted...))
	}
	for _, args := range calls {
		if err := units.Systemctl(ctx, to.scope, args...); err != nil {
			return fmt.Errorf("the units are written, but %w", status.WayOut(ctx, client.NewTarget(ctx, to.scope, in.Name), "start", err))
		}
	}
	return nil
}

// unstarted are those of the units that are not both active now and opened at the next boot; the service is one of them only
// if it is to start with the socket.
func (in *Installer) unstarted(ctx context.Context, to installation) (names []string) {
	wanted := []string{in.Name.Socket()}
	if to.atBoot {
		wanted = append(wanted, in.Name.Service())
	}
	if in.Root != "" {
		return wanted
	}
	found, err := systemd.Of(to.scope).Show(ctx, wanted, "ActiveState", "UnitFileState")
	if err != nil || len(found) != len(wanted) {
		return wanted
	}
	for i, name := range wanted {
		if !slices.Contains([]string{"activating", "active", "reloading"}, found[i]["ActiveState"]) || found[i]["UnitFileState"] != "enabled" {
			names = append(names, name)
		}
	}
	return names
}

// listenChanged reports whether the socket unit has other addresses than before, or gives one to others: with ExecStartPost= a unix
// socket gets its mode and owner.
func (to installation) listenChanged() bool {
	return to.socketChanged("ListenStream=", "ExecStartPost=")
}

// socketChanged reports whether the socket unit was there, and had others of the lines that begin so.
func (to installation) socketChanged(beginnings ...string) bool {
	return slices.ContainsFunc(to.changes, func(change units.Change) bool {
		return filepath.Ext(change.Path) == ".socket" && change.Kind == units.Update &&
			!slices.Equal(linesOf(change.Old, beginnings), linesOf(change.New, beginnings))
	})
}

// noteEffects says what has to be done for a change to reach what is running. Only changed addresses restart anything: a
// restart of the socket closes the port, and one of the service interrupts the worker.
func (in *Installer) noteEffects(to installation, active activeUnits) {
	for _, change := range to.changes {
		if change.Kind == units.Unchanged || slices.Equal(whenStarted(change.Old), whenStarted(change.New)) {
			continue
		}
		switch name := filepath.Base(change.Path); {
		case name == in.Name.Socket() && active.socket && to.listenChanged():
			say.Tell(in.Advice, "the socket was restarted with the new addresses, and the service with it")
			return
		case name == in.Name.Socket() && active.socket:
			say.Tell(in.Advice, "the socket stays open as it is; its new settings take effect when it is next started, at a boot for instance")
		case name == in.Name.Service() && active.service:
			fmt.Fprintf(in.Advice, "the running launcher goes on as it was started until %q; its socket stays open meanwhile, and clients wait\n",
				systemd.Of(to.scope).Own("restart", in.Name.Service()))
		}
	}
}

// whenStarted are the lines of a unit that systemd uses when it starts it. TimeoutStopSec= is none: after a daemon-reload it holds
// for what runs. Nor is WantedBy=, which is for who enables it.
func whenStarted(unit []byte) (lines []string) {
	for line := range strings.SplitSeq(string(unit), "\n") {
		if line != "" && !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "TimeoutStopSec=") && !strings.HasPrefix(line, "WantedBy=") {
			lines = append(lines, line)
		}
	}
	return lines
}

// noteOverrides says what drop-ins make of the units that were written.
func (in *Installer) noteOverrides(ctx context.Context, scope units.Scope) {
	if in.Root != "" {
		return
	}
	manager := systemd.Of(scope)
	found, err := manager.Show(ctx, []string{in.Name.Socket(), in.Name.Service()}, dropins.Properties...)
	if err != nil {
		return // it is only advice
	}
	all := dropins.In(found)
	for _, o := range all {
		fmt.Fprintln(in.Advice, o)
	}
	if len(all) > 0 {
		fmt.Fprintf(in.Advice, "take that out with: %s\n", dropins.Mend(manager, in.EUID(), all))
	}
}

func linesOf(unit []byte, beginnings []string) (lines []string) {
	for line := range strings.SplitSeq(string(unit), "\n") {
		if slices.ContainsFunc(beginnings, func(beginning string) bool { return strings.HasPrefix(line, beginning) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// noteLinger warns of what ends a user's service: without lingering, its manager ends with the last session.
func (in *Installer) noteLinger(scope units.Scope) {
	if scope != units.User || in.Root != "" {
		return
	}
	me, err := user.Current()
	if err != nil {
		return // it is only advice
	}
	if systemd.SessionsOnly(me.Username) {
		fmt.Fprintf(in.Advice, "your units end when you log out, unless you run: %s\n",
			systemd.As(os.Geteuid(), 0, "loginctl", "enable-linger", me.Username))
	}
}

// noteAccess warns if the service's user, going by the modes of the path, may not do what it has to: the service would
// start again and again, and the reason stand only in the journal. An access control list may say otherwise.
func (in *Installer) noteAccess(account *user.User, path string, access uint32, what string) {
	if account.Uid == "0" {
		return
	}
	groups, _ := account.GroupIds() // none where they are not known
	for at, want := path, access; ; at, want = filepath.Dir(at), unix.X_OK {
		info, err := os.Stat(at)
		if err != nil {
			return // it is only advice
		}
		owner := info.Sys().(*syscall.Stat_t)
		bits := uint32(info.Mode().Perm())
		switch {
		case strconv.Itoa(int(owner.Uid)) == account.Uid:
			bits >>= 6
		case slices.Contains(groups, strconv.Itoa(int(owner.Gid))):
			bits >>= 3
		}
		if bits&want == 0 {
			say.Tell(in.Advice, "the user %s cannot %s: change the owner or the mode of %s", account.Username, what, at)
			return
		}
		if at == "/" {
			return
		}
	}
}
