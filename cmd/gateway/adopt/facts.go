package adopt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/adopt/where"
	"openclaw-gateway/cmd/gateway/asuser"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/handoff"
)

// account is the user who runs the worker.
type account struct {
	UID, GID int
	Name     string
	Home     string
}

// envFile is one of EnvironmentFile=, as the user of the service sees it.
type envFile struct {
	Path    string   // with the "-" of one that may be missing, and perhaps a pattern
	Entries []string // NAME=value
	Denied  bool     // that user may not read it: systemd reads it as root
	Wrong   string   // what is wrong with it otherwise
}

// readEnvFiles reads them with the rights of whoever calls it.
func readEnvFiles(paths []string) (files []envFile) {
	for _, path := range paths {
		file := envFile{Path: path}
		var err error
		file.Entries, _, err = config.ReadEnvironmentFile(path)
		switch {
		case errors.Is(err, fs.ErrPermission):
			file.Denied = true
		case err != nil:
			file.Wrong = err.Error()
		}
		files = append(files, file)
	}
	return files
}

// question is what has to be found out with the rights of the worker's user.
type question struct {
	Home        string
	Argv        []string // with variables put in
	Environment []string // of the service, PATH among it
	Directory   string   // where it is started
	Via, Script string
	Running     []string
	Environ     []string // of that one: what tells it where its state is
	Program     string   // that it is: its Node.js
}

// facts are what is found out about a command.
type facts struct {
	Command []string // what worker.command is to be, but for the port and the address
	Said    []string // the command line of the gateway itself: what stands behind a script or a shell, as far as it is known
	Passes  bool     // options that are added to Command reach it
	Added   []string // variables that stood in the command: env NAME=value
	Changed string   // what Command is instead of what the unit has, and why; "" where it is the same

	Product string // openclaw, or what it was called then
	Version string // of its package; "" where that is not known
	Node    string // the program
	NodeIs  string // its version; "" where nothing tells it
	Needs   string // the versions of Node.js that the package runs on
	OnWay   bool   // it goes through openclaw.mjs, which may start itself once more
	Again   string // the variable with which one from before 2026.5 does not start itself once more; "" where it does not anyhow
	found   bool   // Node is what PATH has: nobody has named it

	Own where.Settings

	Refused string  // why it cannot be adopted, with the way out; "" where it can
	Whoever bool    // and so whoever runs it
	Another Another // by what it becomes another user: then it cannot be adopted either
}

// Another is a program by which a command becomes another user than its unit's before it starts OpenClaw, "" where that does not
// show, and that user, "" where it does not say whom.
type Another struct{ By, User string }

var (
	asReader = asuser.Question[[]string, []envFile]{Name: "adopt.files", Limit: 3 * time.Second, Memory: 96 << 20}
	asFactor = asuser.Question[question, facts]{Name: "adopt.facts", Limit: 5 * time.Second, Memory: 96 << 20}
)

func init() {
	asReader.Answer(func(_ context.Context, paths []string) ([]envFile, error) { return readEnvFiles(paths), nil })
	asFactor.Answer(func(_ context.Context, q question) (facts, error) { return gather(q), nil })
}

// foreign reports whether a question about a user's files is for a child that is that user.
func foreign(uid int) bool { return os.Geteuid() == 0 && uid != 0 }

func askFiles(ctx context.Context, of account, paths []string) ([]envFile, error) {
	if !foreign(of.UID) {
		return readEnvFiles(paths), nil
	}
	credential, err := systemd.Credential(of.UID)
	if err != nil {
		return nil, err
	}
	files, err := asReader.Ask(ctx, credential, paths)
	if err == nil && len(files) != len(paths) {
		err = errors.New("it answers about other files")
	}
	return files, err
}

func askFacts(ctx context.Context, of account, q question) (facts, error) {
	if !foreign(of.UID) {
		return gather(q), nil
	}
	credential, err := systemd.Credential(of.UID)
	if err != nil {
		return facts{}, err
	}
	return asFactor.Ask(ctx, credential, q)
}

// gather finds out what a command starts.
func gather(q question) (f facts) {
	f.Passes = true
	if len(q.Running) > 0 && runtimes(q.Running[0]) && runtimes(q.Program) { // npx finds it by a PATH of its own
		q.Running = append([]string{q.Program}, q.Running[1:]...)
	}
	f.command(q)
	if f.Refused != "" || f.Another.By != "" {
		return f
	}
	environment := append(slices.Clone(q.Environment), f.Added...)
	f.program(q, environment)
	if f.Refused != "" {
		return f
	}
	var err error
	f.Own, err = where.Read(f.Said, environment, q.Home, f.Product)
	if err != nil {
		f.Refused = err.Error()
		return f
	}
	f.asItRuns(q)
	return f
}

// asItRuns refuses where the gateway that runs has another state or another Node.js than its unit shows: the environment of its manager
// tells it so, or a script, or what the unit said when it was started. What is derived from the unit would be another OpenClaw.
func (f *facts) asItRuns(q question) {
	if len(q.Environ) > 0 {
		now, err := where.Read(f.Said, q.Environ, q.Home, f.Product)
		if err == nil && (now.StateDir != f.Own.StateDir || now.Path != f.Own.Path) {
			prefix := strings.ToUpper(f.Product)
			f.Refused = fmt.Sprintf("the one that runs has its state in %s and its configuration in %s, and its unit says %s and %s: give the unit Environment=%s_STATE_DIR=%[1]s %[5]s_CONFIG_PATH=%[2]s if the first is right, restart it, and run this again",
				now.StateDir, now.Path, f.Own.StateDir, f.Own.Path, prefix)
			return
		}
	}
	if !f.found || q.Program == "" {
		return
	}
	node, err := read.Resolve(f.Node)
	if err != nil || !runtimes(node) || node == q.Program {
		return
	}
	if _, _, err := read.File(node, read.UnitLimit); err == nil {
		return // a script, which finds another one
	}
	f.Refused = fmt.Sprintf("the one that runs is %s, and the PATH of its unit has %s: name the right one in its ExecStart=, before %s, restart it, and run this again", q.Program, node, f.Said[0])
}

// Programs through which no socket gets, and containers, in which there is no launcher.
var (
	packageRunners = []string{"npx", "npm", "pnpm", "pnpx", "yarn", "bunx", "corepack"}
	containers     = []string{
		"docker", "podman", "nerdctl", "docker-compose", "podman-compose", "systemd-nspawn", "lxc", "lxc-attach", "incus", "machinectl", "flatpak", "snap", "distrobox",
	}
)

// supervisors start a server themselves, and keep the descriptors that they have.
var supervisors = []string{"pm2", "pm2-runtime", "pm2-dev", "forever", "nodemon", "supervisord", "supervisorctl"}

// others become another user in any case: root, where they are not told whom.
var others = []string{"sudo", "sudo-rs", "doas", "pkexec", "run0", "su", "runuser", "gosu", "su-exec", "setuidgid", "s6-setuidgid", "s6-applyuidgid"}

// anotherIn finds in a command by what it becomes another user. Behind the gateway stand its own arguments.
func anotherIn(words []string) Another {
	if at := commandline.GatewayAt(words); at >= 0 {
		words = words[:at]
	}
	if throughContainer(words) != "" {
		return Another{} // in there
	}
	for i, word := range words {
		name := filepath.Base(word)
		if user := handoff.Becomes(words[i:]); user != "" || slices.Contains(others, name) {
			return Another{By: name, User: user}
		}
	}
	return Another{}
}

// throughContainer is the program by which a command starts OpenClaw in a container; "" where it does not.
func throughContainer(words []string) string {
	for i, word := range words {
		if base := filepath.Base(word); slices.Contains(containers, base) && i < len(words)-1 && commandline.GatewayAt([]string{word, "gateway"}) < 0 {
			return base
		}
	}
	return ""
}

// command finds what worker.command is to be.
func (f *facts) command(q question) {
	argv := q.Argv
	// env NAME=value… COMMAND, which needs no env(1) here.
	if filepath.Base(argv[0]) == "env" {
		argv = f.withoutEnv(argv)
	}
	name := filepath.Base(argv[0])
	inner := argv
	switch words := commandline.InShell(argv); {
	case words != nil:
		inner, f.Passes = words, false
		f.Command = argv
	case q.Script != "":
		text, _, err := read.File(q.Script, read.UnitLimit)
		if err != nil {
			f.Refused = fmt.Sprintf("the script that it starts cannot be read by its user: %v", err)
			return
		}
		_, arguments := commandline.ScriptOf(argv)
		s, ok := commandline.ReadScript(string(text), arguments, q.Environment)
		if !ok {
			f.Refused = q.Script + " starts an OpenClaw no more: look at it, and run this again"
			return
		}
		inner, f.Passes = s.Words, s.Passes
		f.Command = argv
	}
	f.Whoever = true
	if engine := throughContainer(inner); engine != "" {
		f.Refused = fmt.Sprintf("its OpenClaw runs in a container (%s), which has sockets of its own: the launcher goes into the container, with `gateway run` as its first process", engine)
		return
	}
	if f.Another = anotherIn(inner); f.Another.By != "" {
		return
	}
	for _, word := range inner {
		if base := filepath.Base(word); slices.Contains(supervisors, base) {
			f.Refused = fmt.Sprintf("its command goes through %s, which starts OpenClaw itself, and through which no sockets get: have the unit start node with OpenClaw's dist/index.js, and take OpenClaw out of %[1]s", base)
			return
		}
		if word == "--force" && f.Command != nil {
			f.Refused = fmt.Sprintf("%s starts OpenClaw with --force, which kills whoever holds the port, and that is systemd: take it out there", name)
			return
		}
	}
	f.Whoever = false
	at := commandline.GatewayAt(inner)
	if at < 0 && len(q.Running) > 0 {
		// It is known by what runs: npm start, a program that becomes it.
		f.Command, f.Passes = nil, true
		f.direct(q, q.Running, fmt.Sprintf("what %s has started and runs now: whatever else that does for it is not taken over", name))
		return
	}
	runner := slices.IndexFunc(inner[:max(at, 0)], func(word string) bool { return slices.Contains(packageRunners, filepath.Base(word)) })
	switch {
	case at < 0:
		f.Whoever = true
		f.Refused = fmt.Sprintf("what %s starts cannot be told from here, and nothing of it runs: start the service once (`systemctl start`), or name node and OpenClaw's dist/index.js in its ExecStart=", name)
	case runner >= 0 && f.Command != nil:
		f.Whoever = true
		f.Refused = fmt.Sprintf("%s starts OpenClaw by %s, through which no sockets get: have it start node with OpenClaw's dist/index.js instead", name, filepath.Base(inner[runner]))
	case runner >= 0:
		f.resolved(q, inner, runner, at)
	case f.Command != nil:
		f.Said = inner[at:]
		f.OnWay = !entersIndex(f.Said)
	case at == 0 || runtimes(inner[0]):
		f.direct(q, inner, "")
	case slices.ContainsFunc(inner[:at], findsNode):
		f.Command, f.Said = inner, inner[at:]
		f.OnWay = !entersIndex(f.Said)
	default:
		// nice, chrt: it becomes what it is called with.
		f.direct(q, inner[at:], "")
		f.Command = append(slices.Clone(inner[:at]), f.Command...)
	}
}

// entersIndex reports whether a gateway's command line names the entry file that starts nothing else.
func entersIndex(said []string) bool {
	return slices.ContainsFunc(said[:max(slices.Index(said, "gateway"), 0)], func(word string) bool { return strings.HasSuffix(word, "/dist/index.js") })
}

// plain are programs that leave PATH as it is to what they become.
var plain = []string{"nice", "ionice", "chrt", "taskset", "numactl", "setpriv", "setsid", "nohup", "stdbuf", "timeout", "prlimit"}

// findsNode reports whether a word before a gateway's is a program that may find another Node.js than the unit's PATH has: a version
// manager, or one that nobody knows.
func findsNode(word string) bool {
	name := filepath.Base(word)
	return !slices.Contains(plain, name) && (handoff.Wraps(name) || filepath.IsAbs(word))
}

// runtimes reports whether a word is Node.js or Bun, by its name.
func runtimes(word string) bool {
	name := filepath.Base(word)
	return strings.HasPrefix(name, "node") || name == "bun" || strings.HasPrefix(name, "nodejs")
}

// withoutEnv takes env(1) and its assignments from a command, where nothing else is asked of it.
func (f *facts) withoutEnv(argv []string) []string {
	rest := argv[1:]
	if len(rest) > 1 && (rest[0] == "-S" || rest[0] == "--split-string") {
		rest = append(commandline.Split(rest[1]), rest[2:]...)
	} else if len(rest) > 0 {
		if split, ok := strings.CutPrefix(rest[0], "-S"); ok && split != "" {
			rest = append(commandline.Split(split), rest[1:]...)
		}
	}
	var added []string
	for len(rest) > 0 {
		name, _, set := strings.Cut(rest[0], "=")
		if !set || strings.Contains(name, "/") {
			break
		}
		added, rest = append(added, rest[0]), rest[1:]
	}
	if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return argv // it does more than that
	}
	f.Added = added
	f.Changed = "env(1) is not needed: the variables that it sets are in the environment file"
	return rest
}

// direct makes the command of Node.js and OpenClaw's entry file, and nothing else.
func (f *facts) direct(q question, words []string, why string) {
	environment := append(slices.Clone(q.Environment), f.Added...)
	program, options, rest := "node", []string(nil), words
	if runtimes(words[0]) {
		program = words[0]
		at := commandline.GatewayAt(words[1:]) + 1
		if at < 1 {
			at = 1
		}
		options, rest = words[1:at], words[at:]
	}
	entry, err := handoff.Lookup(rest[0], cmp.Or(q.Directory, "/"), environment)
	if err != nil && !strings.Contains(rest[0], "/") && !exists(filepath.Join(q.Directory, rest[0])) {
		f.Refused = fmt.Sprintf("the command %s is not found: %v", rest[0], err)
		return
	}
	if err != nil {
		entry = rest[0] // a file for Node.js need not be executable
		if !filepath.IsAbs(entry) {
			entry = filepath.Join(q.Directory, entry)
		}
	}
	resolved, err := read.Resolve(entry)
	if err != nil {
		f.Refused = fmt.Sprintf("OpenClaw's program cannot be opened by its user: %v", err)
		return
	}
	kind, err := handoff.Choose(handoff.Auto, entry)
	if script := err == nil && kind != handoff.Preload && !handoff.Bun(entry, []string{entry}); script && !runtimes(words[0]) {
		// A script for a shell, as pnpm makes them, or a version manager in its place: these find a Node.js themselves.
		f.Command, f.Said = append([]string{entry}, rest[1:]...), rest
		f.OnWay = true
		return
	}
	node, err := handoff.Lookup(program, cmp.Or(q.Directory, "/"), environment)
	if err != nil {
		f.Refused = fmt.Sprintf("its Node.js is not found: %v", err)
		return
	}
	f.Node, f.found = node, !strings.Contains(program, "/")
	main := entry
	if index := indexOf(resolved); index != "" {
		main = index
		why = cmp.Or(why, fmt.Sprintf("%s may start itself a second time and lose the sockets: %s is what it runs", filepath.Base(resolved), index))
	} else if filepath.Base(resolved) != "index.js" {
		f.OnWay = true
	}
	f.Command = slices.Concat([]string{node}, options, []string{main}, rest[1:])
	f.Said = f.Command[len(options)+1:]
	if why != "" {
		f.Changed = why
	}
}

// indexOf is the entry file of a package that starts nothing else, for one of its others; "" for none. Those before 2026.5 are
// started as they were.
func indexOf(entry string) string {
	folder := filepath.Dir(entry)
	switch name := filepath.Base(entry); {
	case strings.HasSuffix(name, ".mjs"):
		folder = filepath.Join(folder, "dist")
	case name != "entry.js":
		return ""
	}
	index := filepath.Join(folder, "index.js")
	pkg, err := openclaw.ReadPackage(index)
	if err != nil || pkg.Name != openclaw.Names()[0] || older(pkg.Version, 2026, 5) || !exists(index) {
		return ""
	}
	return index
}

// resolved finds what npx and the like would start.
func (f *facts) resolved(q question, words []string, runner, at int) {
	why := fmt.Sprintf("no sockets get through %s: this is what it starts", filepath.Base(words[runner]))
	if len(q.Running) > 1 {
		f.direct(q, q.Running, why)
		return
	}
	product, _, _ := strings.Cut(filepath.Base(words[at]), "@")
	var places []string
	for folder := q.Directory; folder != ""; folder = filepath.Dir(folder) {
		places = append(places, filepath.Join(folder, "node_modules"))
		if folder == "/" {
			break
		}
	}
	if program, err := handoff.Lookup(words[runner], cmp.Or(q.Directory, "/"), q.Environment); err == nil {
		if real, err := read.Resolve(program); err == nil { // …/lib/node_modules/npm/bin/npx-cli.js
			if before, _, ok := strings.Cut(real, "/node_modules/"); ok {
				places = append(places, before+"/node_modules")
			}
		}
		places = append(places, filepath.Join(filepath.Dir(filepath.Dir(program)), "lib/node_modules"))
	}
	cached, _ := read.Glob(filepath.Join(q.Home, ".npm/_npx/*/node_modules"))
	for _, place := range append(places, cached...) {
		entry := filepath.Join(place, product, "dist/index.js")
		if exists(entry) {
			rest := slices.DeleteFunc(slices.Clone(words[at+1:]), func(word string) bool { return word == "--" })
			f.direct(q, slices.Concat([]string{"node", entry}, rest), why)
			return
		}
	}
	f.Refused = fmt.Sprintf("%s fetches OpenClaw when it is started, and none of it is there: install it (`npm install --global %s`), and start it in the unit with node and its dist/index.js", filepath.Base(words[runner]), product)
}

// program finds the package that a command starts, and whether its Node.js fits.
func (f *facts) program(q question, environment []string) {
	f.Product = openclaw.Names()[0]
	said := f.Said
	if len(said) == 0 {
		return
	}
	node, entry := f.Node, said[0]
	if runtimes(said[0]) {
		node = cmp.Or(node, said[0])
		if at := commandline.GatewayAt(said[1:]); at >= 0 {
			entry = said[at+1]
		}
	}
	if path, err := handoff.Lookup(entry, cmp.Or(q.Directory, "/"), environment); err == nil {
		entry = path
	}
	if resolved, err := read.Resolve(entry); err == nil {
		entry = resolved
	}
	if pkg, err := openclaw.ReadPackage(entry); err == nil {
		f.Version, f.Needs = pkg.Version, pkg.Engines.Node
		if slices.Contains(openclaw.Names(), pkg.Name) {
			f.Product = pkg.Name
		}
	}
	if starts := filepath.Base(entry) == "entry.js" || strings.HasSuffix(entry, ".mjs"); starts && f.Product != openclaw.Names()[0] {
		f.Again = "CLAWDBOT_NODE_OPTIONS_READY" // moltbot's as well
	} else if starts && older(f.Version, 2026, 5) {
		f.Again = "OPENCLAW_NODE_OPTIONS_READY"
	}
	guessed := !filepath.IsAbs(node)
	switch {
	case guessed && q.Program != "":
		node, guessed = q.Program, false
	case guessed:
		node, _ = handoff.Lookup(cmp.Or(node, "node"), cmp.Or(q.Directory, "/"), environment)
	}
	if node == "" {
		return
	}
	if handoff.Bun(node, []string{node}) {
		f.Refused = "it runs on Bun, which cannot take over a socket (oven-sh/bun 33578): run it with Node.js, and adopt that"
		return
	}
	if guessed {
		return // a script, or a version manager, may find another one
	}
	f.Node, f.NodeIs = node, openclaw.NodeVersion(node)
	if f.Needs != "" && f.NodeIs != "" && !handoff.Suits(f.NodeIs, f.Needs) {
		f.Refused = fmt.Sprintf("%s is Node.js %s, and %s %s runs on %s: install such a Node.js, start the service with it, and run this again", node, f.NodeIs, f.Product, f.Version, f.Needs)
	}
}

// ownerOf is the user who runs a service.
func ownerOf(c Candidate, runAs string) (account, error) {
	key := cmp.Or(runAs, c.Properties["User"], "root")
	if c.scope() == units.User {
		key = fmt.Sprint(c.Manager.UID)
	}
	found, err := systemd.Account(key)
	if err != nil {
		return account{}, fmt.Errorf("the user %s, who runs %s, is not there: %w", key, c.name(), err)
	}
	of := account{Name: found.Username, Home: found.HomeDir}
	if _, err := fmt.Sscan(found.Uid+" "+found.Gid, &of.UID, &of.GID); err != nil {
		return account{}, fmt.Errorf("the user %s has the uid %q: %w", key, found.Uid, err)
	}
	return of, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
