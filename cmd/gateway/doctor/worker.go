package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/handoff"
)

func workerOutside(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher == nil || s.Worker.Cgroup == "" || s.Service.Cgroup == "" || s.Launcher.Launcher.PID != s.Service.MainPID {
		return nil
	}
	if s.Worker.Cgroup == s.Service.Cgroup || strings.HasPrefix(s.Worker.Cgroup, s.Service.Cgroup+"/") {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("the worker, pid %d, has left the control group of %s: systemd neither counts nor ends it with the unit",
			s.Launcher.Worker.PID, s.OfScope(s.Instance.Service())),
		Evidence: map[string]any{"pid": s.Launcher.Worker.PID, "worker_cgroup": s.Worker.Cgroup, "unit_cgroup": s.Service.Cgroup},
		Fix:      f.gateway(s, "restart"),
	}
}

func workerOtherPort(f *Facts, s *gather.Scope) *Finding {
	// A port is none of a unix socket.
	listen := slices.DeleteFunc(slices.Clone(s.Config.Loaded.Listen), netaddr.Address.IsUnix)
	if len(listen) == 0 {
		return nil
	}
	same := func(port uint16) bool {
		return slices.ContainsFunc(listen, func(a netaddr.Address) bool { return a.Port() == port })
	}
	worker := s.Config.Loaded.Worker
	command := worker.Command
	way, openClaw := commandline.Gateway(command, worker.Environment)
	if openClaw {
		command = way.Words
	}
	port, byOption := openclaw.PortOf(command, worker.Environment)
	if byOption && port != 0 && !openClaw && !same(uint16(port)) && !s.Serves() {
		return &Finding{
			Severity: Warning,
			Summary: fmt.Sprintf("%s has --port %d, and listen has %s: if that is the port on which it listens, write %d there",
				s.Line("worker.command"), port, say.Addresses(listen), listen[0].Port()),
			Evidence: map[string]any{"port": port, "listen": say.Addresses(listen), "config": s.Config.Path},
			Fix:      f.edit(s),
		}
	}
	if port != 0 && openClaw && !same(uint16(port)) {
		place, fix := s.Line("worker.environment"), f.edit(s)
		switch {
		case byOption && way.Script != "" && openclaw.Option(worker.Command, "--port") == "":
			place, fix = way.Script, f.editFile(s, way.Script)
		case byOption:
			place = s.Line("worker.command")
		}
		return &Finding{
			Summary: fmt.Sprintf("%s makes OpenClaw listen on port %d, and listen has %s: write port %d instead of %d there",
				place, port, say.Addresses(listen), listen[0].Port(), port),
			Evidence: map[string]any{"port": port, "listen": say.Addresses(listen), "config": s.Config.Path},
			Fix:      fix,
		}
	}
	if len(s.Worker.Elsewhere) == 0 || s.Launcher == nil {
		return nil
	}
	other := say.Addresses(s.Worker.Elsewhere)
	return &Finding{
		Summary: fmt.Sprintf("the worker, pid %d, listens on %s and does not answer on %s: make it listen there by %s",
			s.Launcher.Worker.PID, other, say.Addresses(listen), s.Line("worker.command")),
		Evidence: map[string]any{"pid": s.Launcher.Worker.PID, "listens_on": other, "listen": say.Addresses(listen)},
		Fix:      f.edit(s),
	}
}

// workerClash knows what OpenClaw binds for --bind (OPENCLAW_GATEWAY_BIND is no such
// variable): 0.0.0.0 for lan, 127.0.0.1 for all others.
func workerClash(f *Facts, s *gather.Scope) *Finding {
	command, listen := s.Config.Loaded.Worker.Command, s.Config.Loaded.Listen
	way, _ := commandline.Gateway(command, s.Config.Loaded.Worker.Environment)
	bind := openclaw.Option(way.Words, "--bind")
	if bind == "" {
		return nil
	}
	wants := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if bind == "lan" {
		wants = netip.IPv4Unspecified()
	}
	for _, held := range listen {
		address := netaddr.From(wants, held.Port())
		shown := say.Address(held, s.Config.Loaded.DualStack)
		both := shown != held.String() // one for IPv6 and IPv4
		if held == address || !netaddr.Overlap(held, both, address, false) || slices.Contains(listen, address) {
			continue
		}
		return &Finding{
			Summary: fmt.Sprintf("with --bind %s OpenClaw binds %s, which overlaps %s of listen and is not equal to it: make it %s in %s, "+
				"and run %q then; or change --bind in %s", bind, address, shown, address, s.Line("listen"), say.Shell(append([]string{"gateway", "install"}, s.Instance.Flag()...)...), cmp.Or(way.Script, s.Line("worker.command"))),
			Evidence: map[string]any{"binds": address.String(), "held": shown, "config": s.Config.Path},
			Fix:      f.edit(s),
		}
	}
	return nil
}

// said is what the launcher says of a worker that does not serve.
func said(l *api.Status) map[string]any {
	evidence := map[string]any{"state": l.Worker.State, "generation": l.Worker.Generation}
	if exit := l.Worker.LastExit; exit != nil {
		evidence["last_exit"] = fmt.Sprintf("generation %d at %s: %s (%s)",
			exit.Generation, exit.At.Format(time.RFC3339Nano), say.End(exit.Code, exit.Signal), exit.Reason)
	}
	if l.Worker.NextStart != nil {
		evidence["next_start"] = l.Worker.NextStart.Format(time.RFC3339Nano)
	}
	if len(l.Problems) > 0 {
		evidence["problems"] = l.Problems
	}
	if len(l.Worker.LastWords) > 0 {
		evidence["last_words"] = l.Worker.LastWords
	}
	return evidence
}

func workerFailed(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.Worker.State != api.StateFailed {
		return nil
	}
	if slices.ContainsFunc(s.Launcher.Problems, func(p string) bool { return strings.HasPrefix(p, api.SaysRefused) }) {
		finding := &Finding{
			Summary:  "no worker is started: the configuration is wrong, and none that has worked is known",
			Evidence: said(s.Launcher), Fix: f.edit(s),
		}
		if rejected := configRejected(f, s); rejected != nil {
			finding.Fix = rejected.Fix
		}
		return finding
	}
	return &Finding{
		Summary:  fmt.Sprintf("no worker is started any more: the launcher waits for an edit of the configuration or for %q", say.Shell(append([]string{"gateway", "restart"}, s.Instance.Flag()...)...)),
		Evidence: said(s.Launcher),
		Fix:      f.gateway(s, "restart"),
	}
}

func workerRestarting(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.Worker.State != api.StateBackingOff {
		return nil
	}
	where := "the journal"
	if !s.Installed() {
		where = "its log"
	}
	return &Finding{
		Summary: fmt.Sprintf("the worker has failed, and the launcher waits before it starts the next one: %s says why; "+
			"when that is mended, `%s` starts it at once", where, f.gateway(s, "restart")),
		Evidence: said(s.Launcher),
		Fix:      f.told(s),
	}
}

func workerHung(f *Facts, s *gather.Scope) *Finding {
	hung := s.Launcher.Worker.Hung
	if hung == nil {
		return nil
	}
	summary := "does not serve: it hangs, or is full"
	if s.Worker.Stopped {
		summary = "was stopped by a signal, as by Ctrl-Z, and serves nobody"
	}
	evidence := said(s.Launcher)
	evidence["by"], evidence["since"] = hung.By, hung.Since.Format(time.RFC3339Nano)
	return &Finding{
		Summary: fmt.Sprintf("the worker, pid %d, %s", s.Launcher.Worker.PID, summary), Evidence: evidence, Fix: f.gateway(s, "restart"),
	}
}

func programMissing(f *Facts, s *gather.Scope) *Finding {
	return f.correct(s, s.Config.MissingAt, "", s.Config.Missing)
}

func alarmMissing(f *Facts, s *gather.Scope) *Finding {
	return f.correct(s, "alarm.command", ", or nobody hears of a worker that does not serve", s.Config.NoAlarm)
}

// correct is for a key that names what is not there; without a reason it is.
func (f *Facts) correct(s *gather.Scope, key, consequence, why string) *Finding {
	if why == "" {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("correct %s%s: %s", s.Line(key), consequence, why),
		Evidence: map[string]any{"key": key, "config": s.Config.Path}, Fix: f.edit(s),
	}
}

func workerRunsBun(f *Facts, s *gather.Scope) *Finding {
	if s.Config.Bun == "" || s.Serves() {
		return nil
	}
	finding := Finding{
		Summary: fmt.Sprintf("%s is Bun, which cannot inherit sockets: unless it starts something else that takes them, make %s auto or intercept",
			s.Config.Bun, s.Line("worker.handoff")),
		Evidence: map[string]any{"program": s.Config.Bun, "config": s.Config.Path},
		Fix:      f.edit(s),
		Severity: Warning,
	}
	if openclaw.Starts(s.Config.Loaded.Worker.Command) {
		finding.Severity = Error
		finding.Summary = fmt.Sprintf("%s is Bun, which cannot inherit sockets: name Node.js in %s, or make %s auto", s.Config.Bun, s.Line("worker.command"), s.Line("worker.handoff"))
	}
	return &finding
}

func workerDeprived(f *Facts, s *gather.Scope) *Finding {
	if !s.Launcher.Worker.NoNewPrivs || !s.Configured() || s.Config.Loaded.Worker.Handoff != config.HandoffAuto {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("%s: if it needs none of them, make %s intercept; else name a server that takes its sockets from systemd (LISTEN_FDS), "+
			"and make it listen-fds", api.SaysDeprived, s.Line("worker.handoff")),
		Evidence: map[string]any{"pid": s.Launcher.Worker.PID, "config": s.Config.Path},
		Fix:      f.edit(s),
	}
}

func handoverExclusive(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.HandoverObstacle == "" {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("clients wait for the whole start at a restart, in spite of %s: %s", s.Line("restart.mode"), s.Launcher.HandoverObstacle),
		Evidence: map[string]any{
			"generation": s.Launcher.Worker.Generation, "handoff": s.Launcher.Worker.Handoff, "config": s.Config.Path,
		},
		Fix: f.edit(s),
	}
}

func standbyMissing(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.StandbyObstacle == "" {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("after a crash clients wait for the whole start, in spite of %s: %s", s.Line("restart.standby"), s.Launcher.StandbyObstacle),
		Evidence: map[string]any{"generation": s.Launcher.Worker.Generation, "config": s.Config.Path},
		Fix:      f.told(s),
	}
}

// notPrewarmed tells what the launcher says of its last restart; the next one is another try.
func notPrewarmed(f *Facts, s *gather.Scope) *Finding {
	for _, note := range s.Launcher.Notes {
		if why, cold := strings.CutPrefix(note, api.SaysCold); cold {
			return &Finding{
				Summary:  fmt.Sprintf("the last restart took as long as without restart.prewarm: %s", why),
				Evidence: map[string]any{"reason": why}, Fix: f.gateway(s, "restart"),
			}
		}
	}
	return nil
}

func environmentUnreadable(f *Facts, s *gather.Scope) *Finding {
	if s.Config.Environment == "" {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s cannot be used: %s", s.Line("worker.environment_file"), s.Config.Environment),
		Evidence: map[string]any{"file": s.Config.Loaded.Worker.EnvironmentFile, "config": s.Config.Path},
		Fix:      f.edit(s),
	}
}

func environmentDoubtful(f *Facts, s *gather.Scope) *Finding {
	all := s.Config.Oddities
	if len(all) == 0 {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s: %s", s.Line("worker.environment_file"), strings.Join(say.Texts(all), "; ")),
		Evidence: map[string]any{"file": all[0].File, "config": s.Config.Path},
		Fix:      f.editFile(s, all[0].File),
	}
}

func nodeTooOld(f *Facts, s *gather.Scope) *Finding {
	node := s.Config.Node
	if handoff.Suits(node.Version, node.Range) { // also where it is unknown: gather has said so
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("%s is Node.js %s, and OpenClaw %s needs %s: name such a one in %s", node.Program, node.Version, node.OpenClaw,
			node.Range, s.Line("worker.command")),
		Evidence: map[string]any{"node": node.Program, "version": node.Version, "needs": node.Range, "openclaw": node.OpenClaw},
		Fix:      f.edit(s),
	}
}

func openclawReplaced(f *Facts, s *gather.Scope) *Finding {
	runs, lies := s.Launcher.Worker.OpenClaw, s.Config.Installed
	if runs == nil || lies == "" || lies == runs.Version {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("OpenClaw %s runs, and %s is installed", runs.Version, lies),
		Evidence: map[string]any{"runs": runs.Version, "lies": lies, "entry": runs.Entry},
		Fix:      f.gateway(s, "restart"),
	}
}

func cacheWritable(f *Facts, s *gather.Scope) *Finding {
	w := s.Config.Writable
	if w == nil {
		return nil
	}
	finding := &Finding{
		Summary: fmt.Sprintf("others than user %s can write to %s, where the worker keeps what it has compiled, and that would run: it is not used",
			systemd.UserName(s.UID()), w.Path),
		Evidence: map[string]any{"mode": w.Mode.String(), "owner": systemd.UserName(w.Owner)},
		// Whatever else lies there: the next start makes it anew.
		Fix: systemd.As(f.UID, s.UID(), "mv", w.Path, w.Path+".bak"),
	}
	switch {
	case w.Owner == s.UID() && w.Mode.IsDir():
		finding.Fix = systemd.As(f.UID, s.UID(), "chmod", "go-w", w.Path)
	case w.Base: // systemd gives it to the service's user
		finding.Fix = f.systemctl(s.Manager, "restart", s.Instance.Service())
	}
	return finding
}

func notExternal(f *Facts, s *gather.Scope) *Finding {
	file := s.Config.DotEnv
	if file == nil || file.State.External() || !s.Service.RunsLauncher() || !dotenv.Known(s.Config.Node.OpenClaw) {
		return nil
	}
	finding := &Finding{
		Summary: fmt.Sprintf("OpenClaw does not know that its service is gateway's: its own \"gateway install\", \"stop\" and \"uninstall\" replace, stop or "+
			"remove %s; the command writes %s into %s", s.OfScope(s.Instance.Service()), dotenv.Line, file.Path),
		Evidence: map[string]any{"file": file.Path, "openclaw": s.Config.Node.OpenClaw},
		Fix:      f.install(s, f.Program, "--external"),
	}
	if file.State.Set {
		finding.Evidence["is"] = fmt.Sprintf("%.40q at %s:%d", file.State.Value, file.State.Path, file.State.Line)
	}
	return finding
}

func configInvalid(f *Facts, s *gather.Scope) *Finding {
	mistakes := s.Config.Mistakes
	if len(mistakes) == 0 {
		return nil
	}
	finding := Finding{
		Summary:  fmt.Sprintf("%s has %s", s.Config.Path, say.Count(len(mistakes), "mistake")),
		Evidence: map[string]any{"mistakes": mistakes},
		Fix:      f.edit(s),
	}
	if s.Launcher != nil {
		finding.Evidence["worker"] = s.Launcher.Worker.State
		if s.Launcher.Worker.State != api.StateFailed {
			finding.Summary += "; the last configuration that worked is in use"
		}
	}
	return &finding
}

func configRejected(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.Config.State != api.ConfigRejected || len(s.Config.Mistakes) > 0 {
		return nil
	}
	if blamed := config.Blamed(s.Launcher.Config.Error); len(blamed) > 0 {
		return f.blame(s, blamed)
	}
	return &Finding{
		Summary: fmt.Sprintf("the configuration as it is was not applied; the last one that worked is in use: an edit is applied at once, "+
			"and `%s` tries the file again as it is", f.gateway(s, "reload")),
		Evidence: map[string]any{"reason": s.Launcher.Config.Error, "config": s.Launcher.Config.Path, "worker": s.Launcher.Worker.State},
		Fix:      f.edit(s),
	}
}

// blame is for a configuration that is not applied because of variables: an edit of the file does not help, and the environment of a
// process stays as it is.
func (f *Facts) blame(s *gather.Scope, blamed []string) *Finding {
	finding := &Finding{Evidence: map[string]any{"reason": s.Launcher.Config.Error, "variables": blamed, "worker": s.Launcher.Worker.State}}
	names, pid := say.List(blamed), s.Launcher.Launcher.PID
	if !s.Installed() {
		finding.Summary = fmt.Sprintf("%s in the environment of the launcher, pid %d, is wrong, and wins over the file: start it again with a right value, or without", names, pid)
		finding.Fix = systemd.As(f.UID, s.UID(), "grep", "-az", "^"+blamed[0]+"=", fmt.Sprintf("/proc/%d/environ", pid))
		return finding
	}
	service := s.Instance.Service()
	finding.Summary = fmt.Sprintf("%s in the environment of %s is wrong, and wins over the file: `%s` shows the line that sets it, there or in a drop-in; "+
		"give it a right value, or take it out, wherever it comes from, with UnsetEnvironment=%s below [Service]",
		names, s.OfScope(service), f.systemctl(s.Manager, "cat", service), strings.Join(blamed, " "))
	finding.Fix = then(f.systemctl(s.Manager, "edit", service), f.systemctl(s.Manager, "restart", service))
	return finding
}

func secretsReadable(f *Facts) []Finding {
	var findings []Finding
	for _, s := range f.Which((*gather.Scope).HasFile) {
		for _, file := range s.Config.Exposed {
			summary, fix := fmt.Sprintf("%s can be read by every user, and holds what looks like secrets", file.Path), ""
			switch reader := s.UID(); {
			case file.Owner == reader && reader > 0:
				fix = systemd.As(f.UID, reader, "chmod", "600", file.Path)
			case file.Owner != 0 || file.Others != nil || s.Author() != 0:
				// Nobody but its owner may change it, and whose word names it is not the owner.
				summary += fmt.Sprintf("; it is user %s's: name another one in %s", systemd.UserName(file.Owner), s.Line("worker.environment_file"))
				fix = f.edit(s)
			case reader > 0: // the service has to read it still
				fix = then(f.asRoot("chown", systemd.UserName(reader), file.Path), f.asRoot("chmod", "600", file.Path))
			default:
				fix = f.asRoot("chmod", "600", file.Path)
			}
			findings = append(findings, Finding{
				Summary:  summary,
				about:    []*gather.Scope{s},
				Evidence: inScope(s, map[string]any{"mode": fmt.Sprintf("%04o", file.Mode.Perm()), "names": file.Names, "owner": systemd.UserName(file.Owner)}),
				Fix:      fix,
			})
		}
	}
	return findings
}
