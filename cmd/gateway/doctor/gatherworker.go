package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
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
		entries, err = config.ReadEnvironmentFile(file, slog.New(slog.DiscardHandler), s.owners()...)
	}
	if errors.Is(err, fs.ErrPermission) {
		return // as it should be
	}
	if err != nil {
		g.unknown("worker.environment_file of %s: %v", c.Path, err)
		return
	}
	for _, path := range paths {
		g.expose(s, path, entries)
	}
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
	resolved, err := filepath.EvalSymlinks(path)
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

// program looks for the worker's program, and asks Node.js for its version where it
// runs OpenClaw.
func (g *gatherer) program(ctx context.Context, s *Scope) {
	c := &s.Config
	spec := c.Loaded.Worker
	if len(spec.Command) == 0 {
		return // the built-in server
	}
	path := systemPath
	if s.Name == units.User || !s.Installed() {
		path = "PATH=" + os.Getenv("PATH")
	}
	environ := append([]string{path}, spec.Environment...)
	// The launcher's own variables come first; what is not the caller's cannot be read.
	if content, err := proctree.Environ(s.Service.MainPID); err == nil {
		environ = append(strings.Split(string(content), "\x00"), spec.Environment...)
	}
	directory := spec.Directory
	if directory == "" {
		if uid := s.reader(); uid >= 0 {
			directory = homeOf(uid)
		}
	}
	found, err := handoff.Lookup(spec.Command[0], directory, environ)
	switch {
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 && os.Geteuid() != s.reader():
		g.unknown("worker.command of %s could not be looked at: %v: run this as root", c.Path, err)
		return
	case err != nil:
		c.Missing = fmt.Sprintf("the program of worker.command cannot be started: %v", err)
		return
	}
	entry := openclaw.Entry(spec.Command)
	if entry == "" || !openclaw.Starts(spec.Command) {
		return
	}
	if entry == spec.Command[0] { // a script, which finds Node.js by the PATH
		if found, err = handoff.Lookup("node", directory, environ); err != nil {
			return // it may be no script for env(1)
		}
		entry, err = handoff.Lookup(spec.Command[0], directory, environ)
	} else if kind, err := handoff.Choose(handoff.Auto, found, spec.Command); err != nil || kind != handoff.Preload {
		return // Bun
	}
	if !filepath.IsAbs(entry) {
		entry = filepath.Join(directory, entry)
	}
	if err == nil {
		entry, err = filepath.EvalSymlinks(entry)
	}
	if err != nil {
		c.Missing = fmt.Sprintf("OpenClaw's entry file in worker.command cannot be opened: %v", err)
		return
	}
	pkg, err := openclaw.ReadPackage(entry)
	if err != nil {
		g.unknown("which Node.js OpenClaw needs is not known: %v", err)
		return
	}
	version, err := nodeVersion(ctx, found, s.reader())
	if err != nil {
		g.unknown("the version of Node.js is not known: %v", err)
		return
	}
	c.Node = Node{Program: found, Version: version, Range: pkg.Engines.Node, OpenClaw: pkg.Version}
}

// nodeVersion runs the program as the user that the worker has, who may be the one
// who has put it there: root must not run what is another user's.
func nodeVersion(ctx context.Context, program string, uid int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "--version")
	cmd.Env, cmd.Dir = []string{systemPath}, "/"
	if os.Geteuid() == 0 && uid != 0 {
		if uid < 0 {
			return "", fmt.Errorf("the user of the service is not there, so %s is not run", program)
		}
		credential, err := systemd.Credential(uid)
		if err != nil {
			return "", err
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	}
	// A descendant that keeps the output open would keep this waiting.
	cmd.WaitDelay = answerLimit
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	version := strings.TrimSpace(string(output))
	if !strings.HasPrefix(version, "v") || len(version) > 64 {
		return "", fmt.Errorf("%s --version says no version", program)
	}
	return version, nil
}
