package adopt

import (
	"cmp"
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

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/adopt/where"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
)

// derivation is one service on the way to a plan.
type derivation struct {
	o       Options
	c       Candidate
	p       systemd.Properties
	of      account // who runs it, ours as well
	was     account // who ran it
	env     environment
	collect func(added []string) environment // the same, with what the command line itself adds
	facts
	port    int
	portWhy string
	where.Binding
	lines   []dropins.Assignment // of its files, in systemd's order
	private bool                 // not everybody may read them
	stop    time.Duration        // stop.timeout
	plan    *Plan

	proposed bool // the user is this program's proposal

	values []string // of plan.Settings, as YAML
}

// defaultPath is the PATH of a service that says nothing else (systemd.exec(5)).
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func derive(ctx context.Context, o Options, c Candidate, all seen) (*Plan, error) {
	d := derivation{o: o, c: c, p: c.Properties, plan: &Plan{Scope: c.scope()}}
	for _, step := range []func(context.Context) error{
		d.refuse, d.account, d.variables, d.command, d.address, d.asItListens, d.name(all), d.ours, d.files, d.old, d.rivals(all), d.clash, d.write, d.leftovers,
	} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d.plan, nil
}

// refuse looks for what cannot be taken over at all.
func (d *derivation) refuse(context.Context) error {
	name := d.c.described()
	switch p := d.p; {
	case p["NeedDaemonReload"] == "yes":
		return fmt.Errorf("the files of %s have changed since systemd has read them: run `%s`, see that it still starts, and run this again", name, d.c.Manager.Command(d.o.By.UID, "daemon-reload"))
	case p["Transient"] == "yes":
		return fmt.Errorf("%s has no file: it was started by systemd-run, and is gone when it ends. Stop it, and use `%s install`", name, d.o.By.Program)
	case p["RootDirectory"] != "" || p["RootImage"] != "":
		return fmt.Errorf("%s has a root directory of its own (RootDirectory= or RootImage=), in which there is no launcher: take that out of the unit, or run the launcher in there", name)
	case p["NetworkNamespacePath"] != "" || p["PrivateNetwork"] == "yes":
		return fmt.Errorf("%s has a network of its own (NetworkNamespacePath= or PrivateNetwork=), in which systemd opens no socket: take that out of the unit first", name)
	case p["DynamicUser"] == "yes":
		return fmt.Errorf("%s runs as a user that is made for each start (DynamicUser=yes): create one, let its state belong to that, and give the unit User= instead", name)
	case slices.Contains(d.c.Exec.Flags, "privileged") || slices.Contains(d.c.Exec.Flags, "no-setuid"):
		return fmt.Errorf("ExecStart= of %s begins with + or !, and so runs as root whatever User= says: take that away, and run this again", name)
	case slices.Contains(d.c.Exec.Flags, "via-shell"):
		return fmt.Errorf("ExecStart= of %s begins with |, for a login shell: name the program itself, and run this again", name)
	}
	return nil
}

func (d *derivation) note(format string, values ...any) {
	d.plan.Notes = append(d.plan.Notes, fmt.Sprintf(format, values...))
}

// set sets a key of the configuration. What is shown of it is without secrets.
func (d *derivation) set(key, value, shown, why string) {
	d.plan.Settings, d.values = append(d.plan.Settings, Setting{key, shown, why}), append(d.values, value)
}

// variables collects the environment.
func (d *derivation) variables(ctx context.Context) error {
	files, err := askFiles(ctx, d.reader(), d.p.List("EnvironmentFiles"))
	if err != nil {
		return fmt.Errorf("the environment files of %s could not be read as user %s: %w", d.c.described(), d.of.Name, err)
	}
	for i, file := range files {
		path := strings.TrimPrefix(file.Path, "-")
		if file.Denied && d.o.By.UID == 0 && d.c.scope() == units.System {
			seen := readEnvFiles([]string{file.Path})[0] // systemd reads it as root
			files[i].Entries, files[i].Wrong = seen.Entries, seen.Wrong
			if seen.Denied {
				files[i].Wrong = "not even root may read it"
			}
		} else if file.Denied {
			files[i].Wrong = "its user may not read it"
		}
		if files[i].Wrong != "" {
			return fmt.Errorf("EnvironmentFile=%s of %s cannot be read, and so nobody knows what OpenClaw is told: %s. Mend it, or take it out of the unit (`%s`), and run this again",
				path, d.c.described(), files[i].Wrong, d.c.Manager.Command(d.o.By.UID, "edit", "--full", d.c.name()))
		}
	}
	said := d.p.List("Environment")
	if err := d.ownHome(collect(said, files, d.p.List("UnsetEnvironment"), nil).all); err != nil {
		return err
	}
	inline := d.movedVariables(said)
	for i := range files {
		if !files[i].Denied { // systemd reads those
			files[i].Entries = d.movedVariables(files[i].Entries)
		}
	}
	d.collect = func(added []string) environment { return collect(inline, files, d.p.List("UnsetEnvironment"), added) }
	d.env = d.collect(nil)
	return nil
}

// command finds out what the worker is.
func (d *derivation) command(ctx context.Context) error {
	argv := slices.Clone(d.c.Exec.Argv)
	if len(argv) == 0 {
		return fmt.Errorf("%s has no command", d.c.described())
	}
	if filepath.Base(argv[0]) != filepath.Base(d.c.Exec.Path) {
		d.plan.Lost = append(d.plan.Lost, Note{What: "the name that its process is called by: " + say.Printable(argv[0]), Why: "the worker is called by its program"})
	}
	argv[0] = d.c.Exec.Path
	path := defaultPath
	if own := d.p.List("ExecSearchPath"); len(own) > 0 {
		path = "PATH=" + strings.Join(own, ":")
	}
	surroundings := append([]string{path, "HOME=" + d.of.Home, "USER=" + d.of.Name, "LOGNAME=" + d.of.Name}, d.env.all...)
	if !slices.Contains(d.c.Exec.Flags, "no-env-expand") {
		if name := commandline.OfOneStart(argv, surroundings); name != "" {
			return fmt.Errorf("%s has ${%s} in its command, which systemd sets for each unit anew, and in ours to something else: write there what it stands for, see that it still starts, and run this again", d.c.described(), name)
		}
		if expanded := commandline.Expand(argv, surroundings); !slices.Equal(expanded, argv) {
			d.note("its command has variables in it (%s): what they stand for now is in the configuration, and no edit of theirs changes that", strings.Join(commandline.Variables(argv), ", "))
			argv = expanded
		}
	}
	if slices.Contains(d.c.Exec.Flags, "ignore-failure") {
		d.plan.Lost = append(d.plan.Lost, Note{What: "the - before its command", Why: "the launcher's unit does not fail"})
	}
	if err := d.itself(anotherIn(argv)); err != nil {
		return err
	}
	directory := d.directory()
	if d.p["Type"] == "forking" || slices.Contains([]string{"screen", "tmux", "daemonize", "start-stop-daemon"}, filepath.Base(argv[0])) {
		at := commandline.GatewayAt(argv)
		if at < 0 {
			return fmt.Errorf("%s goes to the background (Type=forking), and what it starts there cannot be told: have it stay in the foreground, with Type=simple and node and OpenClaw's dist/index.js as its ExecStart=", d.c.described())
		}
		if at > 0 {
			argv = argv[at:]
			d.Changed = "a worker stays in the foreground"
		}
	}
	q := question{
		Home: d.of.Home, Argv: argv, Environment: surroundings, Directory: cmp.Or(directory, d.of.Home), Via: d.c.Via, Script: d.c.Script, Running: d.c.Running,
		Program: d.c.program(),
	}
	if !d.moved() {
		q.Environ = d.environ()
	}
	found, err := askFacts(ctx, d.reader(), q)
	if err != nil {
		return fmt.Errorf("what %s starts could not be looked at as user %s: %w", d.c.described(), d.of.Name, err)
	}
	found.Changed = cmp.Or(found.Changed, d.Changed)
	d.facts = found
	if err := d.itself(found.Another); err != nil {
		return err
	}
	if found.Refused != "" {
		return fmt.Errorf("%s cannot be adopted: %s%s", d.c.described(), strings.TrimSuffix(found.Refused, "."), d.orRoots())
	}
	if err := d.ownHome(found.Added); err != nil {
		return err
	}
	if len(found.Added) > 0 {
		d.env = d.collect(d.movedVariables(found.Added))
	}
	if d.OnWay {
		d.env.drop("NODE_COMPILE_CACHE", "with it the openclaw command starts itself a second time, and loses the sockets")
	}
	if d.moved() {
		return d.move(ctx, q)
	}
	return nil
}

// itself refuses a command that becomes another user: the state, the port and the rights would be taken for those of the unit's user.
// Who is root in the unit may become less; what a user's own files say makes nobody more.
func (d *derivation) itself(a Another) error {
	if a == (Another{}) {
		return nil
	}
	by, what := "", "what makes it that user"
	if a.By != "" {
		by, what = ", by "+a.By, a.By
	}
	whom, out := "another user", "take "+what+" out of what it starts"
	if a.User != "" {
		whom = "user " + a.User
	}
	if d.c.scope() == units.System && d.was.UID == 0 {
		out = fmt.Sprintf("give its unit User=%s, and take %s out (`%s`)", a.User, what, d.c.Manager.Command(d.o.By.UID, "edit", "--full", d.c.name()))
	}
	return fmt.Errorf("%s cannot be adopted: it becomes %s itself%s: %s, see that it still starts, and run this again", d.c.described(), whom, by, out)
}

// directory is where it is started: "" for the home of its user, in which the launcher starts a worker of its own accord.
func (d *derivation) directory() string {
	said := strings.TrimPrefix(d.p["WorkingDirectory"], "!") // it may be missing
	switch {
	case d.moved() && within(said, d.was.Home):
		return ""
	case said == "~", said == "" && d.c.scope() == units.User, filepath.Clean(said) == d.of.Home && said != "":
		return ""
	case said == "":
		return "/"
	case d.p["WorkingDirectory"] != said && !exists(said):
		return "/"
	}
	return said
}

// address derives where it listens, and how long its stop may take.
func (d *derivation) address(context.Context) (err error) {
	environment := d.env.all
	if where.Variable(environment, "GATEWAY_PORT") == "" && d.Own.EnvPort != "" {
		environment = append(slices.Clone(environment), strings.ToUpper(d.Product)+"_GATEWAY_PORT="+d.Own.EnvPort)
	}
	profile := where.Profile(d.Said, environment)
	if d.port, d.portWhy, err = where.Port(d.Said, environment, d.Own, d.Product, profile); err != nil {
		return fmt.Errorf("%s: %w", d.c.described(), err)
	}
	if err := d.mayOpen(); err != nil {
		return err
	}
	if d.Binding, err = where.Bind(d.Said, d.Own, d.port, where.Here(environment)); err != nil {
		return fmt.Errorf("%s: %w", d.c.described(), err)
	}
	d.plan.Listen = d.Listen
	limit := microseconds(d.p["TimeoutStopUSec"])
	d.stop = limit - units.NeededStopLimit(0)
	switch {
	case limit <= 0:
		d.stop = longestStop
	case d.stop < time.Second:
		d.stop = time.Second
	}
	d.stop = min(d.stop, longestStop)
	d.plan.StopTimeout = d.stop
	return nil
}

// mayOpen refuses a port that only root may open, and that the service's user asks for, and not the unit, which is root's: systemd
// would open it for that user.
func (d *derivation) mayOpen() error {
	byUnit := openclaw.Option(d.c.Exec.Argv, "--port") != "" || where.Variable(d.p.List("Environment"), "GATEWAY_PORT") != ""
	if d.c.scope() == units.User || d.of.UID == 0 || byUnit || d.port >= firstOfAll {
		return nil
	}
	return fmt.Errorf("%s: port %d (%s) is one that only root may open, and user %s asks for it, not the unit: put --port %d into its ExecStart= if that is meant, and run this again",
		d.c.described(), d.port, d.portWhy, d.of.Name, d.port)
}

// firstOfAll is the first port that everybody may open (ip_unprivileged_port_start in ip(7)).
const firstOfAll = 1024

// longestStop stands for no end.
const longestStop = 24 * time.Hour

// microseconds is a property that is a time; 0 for no end.
func microseconds(text string) time.Duration {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > math.MaxInt64/1000 {
		return 0
	}
	return time.Duration(n) * time.Microsecond
}

// files reads the unit's own, and decides on each line.
func (d *derivation) files(context.Context) error {
	own := append([]string{d.p["FragmentPath"]}, d.p.List("DropInPaths")...)
	for _, path := range own {
		if path == "" || isMask(path) || d.everybodys(path) {
			continue
		}
		if d.stays(path) {
			d.note("%s stays where it is: it holds for ours, which has the same name", path)
			continue
		}
		text, info, err := read.File(path, read.UnitLimit)
		if err != nil {
			return fmt.Errorf("a file of %s cannot be read: %w", d.c.described(), err)
		}
		d.private = d.private || info.Mode()&0o004 == 0
		d.lines = append(d.lines, dropins.Assignments(text)...)
	}
	return nil
}

// everybodys reports whether a drop-in is for ours as well: of all services, or of all whose name begins like it, up to a dash
// (systemd.unit(5)).
func (d *derivation) everybodys(path string) bool {
	folder := filepath.Base(filepath.Dir(path))
	prefix, some := strings.CutSuffix(folder, "-.service.d")
	return folder == "service.d" || some && strings.HasPrefix(d.plan.Instance.Service(), prefix+"-")
}

// isMask reports whether a file stands for none: a link to /dev/null.
func isMask(path string) bool {
	target, err := filepath.EvalSymlinks(path)
	return err == nil && target == os.DevNull
}

// stays reports whether a drop-in is "systemctl set-property"'s and has the name of ours: it holds for ours as it did, and the next
// set-property changes it.
func (d *derivation) stays(path string) bool {
	folder, unit := filepath.Split(filepath.Dir(path))
	return strings.HasSuffix(filepath.Clean(folder), ".control") && unit == d.c.name()+".d" && d.c.name() == d.plan.Instance.Service()
}

// worker is the command line of the worker: that of the old unit, told the port and the address.
func (d *derivation) worker() []string {
	command := commandline.WithoutOption(d.Command, "--force", false)
	if !d.Passes {
		return command
	}
	command = commandline.WithoutOption(command, "--port", true)
	command = commandline.WithoutOption(command, "--bind", true)
	return append(command, "--port", strconv.Itoa(d.port), "--bind", d.Bind)
}

// ready is what is asked for, as the configuration has it and as a URL.
func (d *derivation) ready() (path, url, why string) {
	path, why = "/startupz", fmt.Sprintf("OpenClaw %s answers it with 200 when it is through with its start", cmp.Or(d.Version, "from 2026.6 on"))
	if d.Version != "" && older(d.Version, 2026, 6) || d.Product != openclaw.Names()[0] {
		path, why = "/healthz", fmt.Sprintf("%s %s knows no /startupz", d.Product, d.Version)
	}
	at := d.Listen[0]
	for _, address := range d.Listen {
		if address.Addr().IsLoopback() {
			at = address
			break
		}
	}
	if at.Addr().IsUnspecified() {
		at = netaddr.MustParse(fmt.Sprintf("127.0.0.1:%d", d.port))
	}
	url = "http://" + at.String() + path
	if d.Own.TLS {
		url = "https://" + at.String() + path
		return url, url, fmt.Sprintf("gateway.tls is enabled in %s; %s", d.Own.Path, why)
	}
	return path, url, why
}

// older reports whether a version of OpenClaw's, YEAR.MONTH.DAY or the like, is from before a month.
func older(version string, year, month int) bool {
	var y, m int
	if _, err := fmt.Sscanf(version, "%d.%d", &y, &m); err != nil {
		return false
	}
	return y < year || y == year && m < month
}

// signal is stop.signal: that of KillSignal=, "" where it is the default.
func (d *derivation) signal() string {
	number, err := strconv.Atoi(d.p["KillSignal"])
	if err != nil || number == 0 || unix.Signal(number) == unix.SIGTERM {
		return ""
	}
	return unix.SignalName(unix.Signal(number))
}

// fatal are the exit codes that RestartPreventExitStatus= has, where they are others than the launcher's default.
func (d *derivation) fatal() []int {
	var codes []int
	for _, line := range d.lines {
		if line.Name != "RestartPreventExitStatus" {
			continue
		}
		if line.Value == "" {
			codes = nil
		}
		for _, word := range strings.Fields(line.Value) {
			code, err := strconv.Atoi(word)
			if err == nil && code > 0 && code < 256 && !slices.Contains(codes, code) {
				codes = append(codes, code)
			} else if err != nil && word == "CONFIG" && !slices.Contains(codes, 78) {
				codes = append(codes, 78)
			}
		}
	}
	return codes
}

// valid has the configuration checked as the launcher will.
func (d *derivation) valid(path string, content []byte) error {
	if _, err := config.Parse(path, content); err != nil {
		return errors.Join(fmt.Errorf("what %s has makes no valid configuration of ours, which is a mistake of this program's", d.c.described()), err)
	}
	return nil
}
