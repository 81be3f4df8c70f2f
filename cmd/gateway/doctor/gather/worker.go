package gather

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
)

// exposed looks whether others can read the files with secrets.
func (g *gatherer) exposed(s *Scope) {
	c := &s.Config
	g.expose(s, c.Path, c.Loaded.Worker.Environment)

	file := c.Loaded.Worker.EnvironmentFile
	if file == "" {
		return
	}
	paths, err := config.EnvironmentFiles(file)
	var entries []string
	if err == nil {
		entries, c.Oddities, err = config.ReadEnvironmentFile(file, s.owners()...)
	}
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != s.UID() {
		return // as it should be
	}
	switch {
	case errors.Is(err, read.ErrLink), errors.Is(err, read.ErrOwner): // the launcher reads what its user can
		g.unknown("worker.environment_file of %s: %v", c.Path, err)
		return
	case err != nil:
		c.Environment = err.Error()
		return
	}
	for _, path := range paths {
		g.expose(s, path, entries)
	}
}

// cache looks whether somebody else can write where the worker keeps what it has compiled, which will run.
func (g *gatherer) cache(s *Scope) {
	base := "/var/cache"
	if s.Name == units.User {
		base = filepath.Join(s.home(), ".cache")
		if own, err := os.UserCacheDir(); err == nil && s.Manager.UID == os.Geteuid() {
			base = own
		}
	}
	base = filepath.Join(base, s.Instance.Directory())
	if s.Config.Loaded.Worker.Cache == config.CacheOff || !s.Installed() || s.UID() < 0 {
		return
	}
	for _, path := range []string{base, filepath.Join(base, api.CompileCache), filepath.Join(base, api.Prewarm)} {
		info, err := os.Lstat(path)
		if err == nil && !api.Private(info, s.UID()) {
			s.Config.Writable = &Writable{path, info.Mode(), read.Owner(info), path == base}
			return
		}
	}
}

// dotEnv looks whether OpenClaw leaves its service to us.
func (g *gatherer) dotEnv(ctx context.Context, s *Scope) {
	worker := s.Config.Loaded.Worker
	gateway := dotenv.GatewayOf(worker, s.UID(), s.home(), s.owners()...)
	if len(gateway.Command) == 0 || s.UID() < 0 {
		return
	}
	file, err := dotenv.Find(ctx, gateway)
	if err != nil {
		return // it may be known where the worker is started
	}
	s.Config.StateDir = filepath.Dir(file.Path)
	state, err := file.Look(ctx)
	if err != nil {
		g.addUnknown(false, "whether OpenClaw leaves its service to gateway is not known: %v", err)
		return
	}
	s.Config.DotEnv = &DotEnv{file.Path, state}
}

// expose takes note of a file that others can read and that has a secret among its variables.
func (g *gatherer) expose(s *Scope, path string, variables []string) {
	var names []string
	for _, entry := range variables {
		if name, _, _ := strings.Cut(entry, "="); say.IsSecret(name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	resolved, err := read.Resolve(path)
	if err != nil {
		return // Load has read it: it has just been replaced
	}
	info, err := os.Stat(resolved)
	if err != nil || info.Mode()&0o004 == 0 {
		return
	}
	for folder := filepath.Dir(resolved); ; folder = filepath.Dir(folder) {
		if above, err := os.Stat(folder); err != nil || above.Mode()&0o001 == 0 {
			return // nobody else gets there
		}
		if folder == "/" {
			break
		}
	}
	s.Config.Exposed = append(s.Config.Exposed, Exposed{
		Path: resolved, Mode: info.Mode(), Names: names, Owner: read.Owner(info), Others: othersOf(resolved),
	})
}

// systemPath is the PATH that systemd gives a service (systemd.exec(5)).
const systemPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// program looks for the worker's program, and for the version of Node.js where that runs OpenClaw. It executes none: whoever
// may edit the configuration chooses it. It looks for that of the alarm as well.
func (g *gatherer) program(s *Scope) {
	c := &s.Config
	spec := c.Loaded.Worker
	path := systemPath
	if own := os.Getenv("PATH"); own != "" && (s.Name == units.User || !s.Installed()) {
		path = "PATH=" + own
	}
	environ := []string{path}
	// The launcher's own variables come first; what is not the caller's cannot be read.
	if content, err := proctree.Environ(s.Service.MainPID); err == nil {
		environ = strings.Split(string(content), "\x00")
	}
	if command := c.Loaded.Alarm.Command; len(command) > 0 {
		_, err := g.executable(s, "alarm.command", command, handoff.Directory(s.home()), environ)
		if err != nil {
			c.NoAlarm = err.Error()
		}
	}
	directory := cmp.Or(spec.Directory, handoff.Directory(s.home()))
	environ = append(environ, spec.Environment...)
	if spec.Directory != "" {
		info, err := os.Stat(directory)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			c.Missing, c.MissingAt = directory+" is not there", "worker.directory"
			return
		case err == nil && !info.IsDir():
			c.Missing, c.MissingAt = directory+" is not a directory", "worker.directory"
			return
		}
	}
	if len(spec.Command) == 0 {
		return // the built-in server
	}
	found, err := g.executable(s, "worker.command", spec.Command, directory, environ)
	if err != nil {
		c.Missing, c.MissingAt = err.Error(), "worker.command"
	}
	if found == "" || err != nil {
		return
	}
	if handoff.Bun(found, spec.Command) {
		if spec.Handoff == config.HandoffListenFDs || spec.Handoff == config.HandoffPreload { // of intercept it notices nothing
			c.Bun = found
		}
		return
	}
	way, _ := commandline.Gateway(spec.Command, spec.Environment)
	entry := openclaw.Entry(way.Words)
	if entry == "" {
		if err := handoff.Missing(found, spec.Command, directory); err != nil {
			c.Missing, c.MissingAt = fmt.Sprintf("its program cannot be started: %v", err), "worker.command"
		}
		return
	}
	if way.Via != "" { // on its way it may find another Node.js than by this PATH
		if found = way.Words[0]; entry == found || !filepath.IsAbs(found) {
			found = ""
		}
		if !strings.Contains(entry, "/") {
			entry, err = handoff.Lookup(entry, directory, environ)
		}
	} else if entry == spec.Command[0] { // a script, which finds Node.js by the PATH
		if found, err = handoff.Lookup("node", directory, environ); err != nil {
			return // it may be no script for env(1)
		}
		entry, err = handoff.Lookup(spec.Command[0], directory, environ)
	} else if kind, err := handoff.Choose(handoff.Auto, found); err != nil || kind != handoff.Preload {
		return // a wrapper of that name
	}
	if !filepath.IsAbs(entry) {
		entry = filepath.Join(directory, entry)
	}
	if err == nil {
		entry, err = read.Resolve(entry)
	}
	if err != nil && way.Via != "" {
		return
	}
	if err != nil {
		c.Missing, c.MissingAt = fmt.Sprintf("OpenClaw's entry file cannot be opened: %v", err), "worker.command"
		return
	}
	pkg, err := openclaw.ReadPackage(entry)
	if err != nil && way.Via != "" {
		return // a shim, beside which there is none
	}
	if err != nil {
		g.unknown("which Node.js OpenClaw needs is not known: %v", err)
		return
	}
	c.Node.OpenClaw = pkg.Version
	if found == "" {
		return
	}
	c.Node.Program, c.Node.Version, c.Node.Range = found, openclaw.NodeVersion(found), pkg.Engines.Node
	if c.Node.Version == "" {
		g.addUnknown(false, "whether %s is a Node.js that OpenClaw %s runs on is not known: no file beside it tells its version", found, pkg.Version)
	}
}

// executable finds the program of a command, and says why it cannot be started; where neither can be known it takes note of that.
func (g *gatherer) executable(s *Scope, key string, command []string, directory string, environ []string) (found string, err error) {
	found, err = handoff.Lookup(command[0], directory, environ)
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && os.Geteuid() != s.UID() {
		g.unknown("%s of %s could not be looked at: %v: run this as root", key, s.Config.Path, err)
		return "", nil
	}
	if err == nil && openclaw.Entry(command) == "" {
		err = handoff.Missing(found, command, directory)
	}
	if err != nil {
		err = fmt.Errorf("its program cannot be started: %w", err)
	}
	return found, err
}
