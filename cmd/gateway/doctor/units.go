package doctor

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
)

// overridden returns what drop-ins change, of those settings alone where some are named.
func (s *Scope) overridden(settings ...string) []dropins.Override {
	return slices.DeleteFunc(slices.Clone(s.Overrides), func(o dropins.Override) bool { return len(settings) > 0 && !slices.Contains(settings, o.Setting) })
}

// unusable reports whether it follows from a drop-in alone that a unit has failed: no command does anything about it that leaves
// that as it is.
func (s *Scope) unusable(unit string) bool {
	return slices.ContainsFunc(s.overridden(), func(o dropins.Override) bool {
		return o.Broken || o.Unit == unit && slices.Contains([]string{"Type", "User"}, o.Setting)
	})
}

func (f *Facts) mend(s *Scope, all []dropins.Override) string {
	return dropins.Mend(s.Manager, f.UID, all)
}

func unitOverridden(f *Facts, s *Scope) *Finding {
	all := s.overridden()
	if len(all) == 0 {
		return nil
	}
	finding := &Finding{Evidence: map[string]any{}, Fix: f.mend(s, all), Severity: Warning}
	var does, files []string
	for _, o := range all {
		does = append(does, o.Line+": "+o.Does)
		for _, file := range o.Files {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
		if o.Broken {
			finding.Severity = Error
		}
	}
	finding.Summary = fmt.Sprintf("%s for %s: %s; the command takes that out, and leaves the rest of it", say.List(files),
		s.ofScope("openclaw-gateway"), strings.Join(does, "; "))
	finding.Evidence["files"], finding.Evidence["lines"] = files, does
	return finding
}

func socketNotEnabled(f *Facts, s *Scope) *Finding {
	if s.Socket.enabled() {
		return nil
	}
	finding := Finding{
		Summary:  fmt.Sprintf("%s is %s: after a boot nobody opens the port", s.ofScope(units.Socket), s.Socket.FileState),
		Evidence: map[string]any{"unit_file_state": s.Socket.FileState, "active_state": s.Socket.ActiveState},
		Fix:      f.systemctl(s.Manager, "enable", "--now", units.Socket),
	}
	switch {
	case !s.Socket.exists():
		finding.Summary = fmt.Sprintf("%s is missing: the service gets no sockets from systemd", s.ofScope(units.Socket))
		finding.Fix = f.install(s, f.Program, "--now")
	case s.Socket.LoadState == "masked":
		// systemd masks no unit whose file is there: ours is gone.
		masked := []string{"unmask", units.Socket}
		if s.Service.LoadState == "masked" {
			masked = append(masked, units.Service)
		}
		finding.Fix = then(f.systemctl(s.Manager, masked...), f.install(s, f.Program, "--now"))
	}
	return &finding
}

// atOnceNotEnabled compares when the worker is to start with when the service does.
func atOnceNotEnabled(f *Facts, s *Scope) *Finding {
	atOnce := s.Config.Loaded.Worker.Start == config.StartAtOnce
	if !s.Service.runsLauncher() || !s.Socket.enabled() || atOnce == s.Service.enabled() {
		return nil
	}
	finding := &Finding{
		Summary: fmt.Sprintf("worker.start is at-once, and %s is %s: after a boot the worker starts with the first client",
			s.ofScope(units.Service), s.Service.FileState),
		Evidence: map[string]any{"unit_file_state": s.Service.FileState, "config": s.Config.Path},
		Fix:      f.install(s, f.Program),
	}
	if !atOnce {
		finding.Summary = fmt.Sprintf("worker.start is on-demand, and %s is enabled: after a boot the launcher runs, and the worker starts with the first client",
			s.ofScope(units.Service))
		finding.Fix = f.systemctl(s.Manager, "disable", units.Service)
	}
	return finding
}

func socketNotActive(f *Facts, s *Scope) *Finding {
	if !s.Socket.enabled() || s.Socket.ActiveState != "inactive" {
		return nil // failed, and not enabled, are findings of their own
	}
	return &Finding{
		Summary:  s.ofScope(units.Socket) + " is stopped: nobody listens, clients are refused",
		Evidence: map[string]any{"active_state": s.Socket.ActiveState},
		Fix:      f.systemctl(s.Manager, "start", units.Socket),
	}
}

// The results of a socket unit, as systemd names them (socket_result_table in
// src/core/socket.c of 252).
const (
	resultResources         = "resources"
	resultStartLimit        = "start-limit-hit"
	resultServiceStartLimit = "service-start-limit-hit"
	resultTriggerLimit      = "trigger-limit-hit"
)

func (f *Facts) resetAndStart(s *Scope, reset ...string) string {
	return then(f.systemctl(s.Manager, append([]string{"reset-failed"}, reset...)...), f.systemctl(s.Manager, "start", units.Socket))
}

func socketPortTaken(f *Facts, s *Scope) *Finding {
	if s.Socket.ActiveState != "failed" || s.Socket.Result != resultResources || s.unusable(units.Socket) {
		return nil
	}
	if left := f.bindable(s.Socket.Listen); len(left) < len(s.Socket.Listen) {
		return &Finding{
			Summary: fmt.Sprintf("%s could not bind its addresses: this kernel has no IPv6, and %s %s among them", s.ofScope(units.Socket),
				say.Addresses(without(s.Socket.Listen, left)), say.Are(len(s.Socket.Listen)-len(left))),
			Evidence: map[string]any{"result": s.Socket.Result, "kernel": f.Kernel},
			Fix:      f.install(s, f.Program, "--now"),
		}
	}
	var steps, who []string
	// What the kernel says to conflict; of a wildcard it is not said with which family.
	inTheWay := func(a netip.AddrPort) bool { return s.Socket.overlaps(a, true) }
	summary := s.ofScope(units.Socket) + " could not bind its addresses"
	finding := func(fix string) *Finding {
		return &Finding{Summary: summary, Evidence: map[string]any{"result": s.Socket.Result}, Fix: fix}
	}
	// wish is for another user's unit: it gives way.
	wish := func() *Finding {
		summary += fmt.Sprintf(", which another has: name another port in %s", s.line("listen"))
		wish := finding(then(f.move(s), f.systemctl(s.Manager, "start", units.Socket)))
		wish.theirs = true
		return wish
	}
	for i := range f.Scopes {
		o := &f.Scopes[i]
		if o.Manager == s.Manager || !o.Socket.active() ||
			!slices.ContainsFunc(o.Socket.Listen, func(a netip.AddrPort) bool { return s.Socket.overlaps(a, !o.Socket.IPv6Only) }) {
			continue
		}
		if f.theirs(s) {
			return wish()
		}
		summary += "; the port is held by " + o.ofScope(units.Socket)
		switch {
		case f.theirs(o):
			summary += ": name another port there"
			return finding(then(f.move(o), f.systemctl(s.Manager, "start", units.Socket)))
		default:
			// As two-scopes-one-port says: who has the port serves, and nothing of it is to be killed.
			return finding(f.disable(s))
		}
	}
	sockets, own := f.sockets(), wishOf(s)
	if f.theirs(s) {
		sockets = f.Sockets
		another := func(h holders.Holder) bool {
			return slices.ContainsFunc(h.Addresses, inTheWay) && !own.holds(h) && !f.isMain(h) && !f.isUnit(h)
		}
		if slices.ContainsFunc(holders.Each(sockets), another) {
			return wish()
		}
	}
	for _, role := range []api.Role{api.RoleOrphan, api.RoleRival, api.RoleForeign, api.RoleLauncher, api.RoleWorker} {
		for _, h := range holders.Each(sockets) {
			if h.Role != role || f.isMain(h) || !slices.ContainsFunc(h.Addresses, inTheWay) {
				continue
			}
			who = append(who, fmt.Sprintf("pid %d (%s)", h.PID, h.Role))
			step := h.Remedy(f.Asker).Command
			if f.theirs(s) {
				step = f.remedy(h, own.uid)
			}
			// A launcher takes its worker along.
			if role != api.RoleWorker && !slices.Contains(steps, step) {
				steps = append(steps, step)
			}
		}
	}
	for _, other := range f.otherUnits() {
		switch {
		case !inTheWay(other.address):
		case other.name == "":
			who = append(who, "another socket unit")
		case !slices.Contains(steps, other.Fix):
			who, steps = append(who, other.name), append(steps, other.Fix)
		}
	}
	if len(who) > 0 {
		summary += "; the port is held by " + strings.Join(who, ", ")
	} else {
		summary += ": clients are refused; nobody holds them any more that can be seen"
	}
	return finding(then(append(steps, f.systemctl(s.Manager, "start", units.Socket))...))
}

func socketStartLimit(f *Facts, s *Scope) (summary, fix string) {
	switch s.Socket.Result {
	case resultStartLimit:
		return s.ofScope(units.Socket) + " was started too often, and systemd opens it no more", f.resetAndStart(s, units.Socket)
	case resultServiceStartLimit:
		return s.ofScope(units.Service) + " was started too often, and systemd has closed its socket", f.resetAndStart(s, units.Socket, units.Service)
	}
	return "", ""
}

func socketTriggerLimit(f *Facts, s *Scope) (summary, fix string) {
	if s.Socket.Result != resultTriggerLimit {
		return "", ""
	}
	return s.ofScope(units.Socket) + " has started its service too often, and systemd has closed it", f.resetAndStart(s, units.Socket, units.Service)
}

func socketFailed(f *Facts) []Finding {
	return append(failed(socketFailedOtherwise)(f), each((*Scope).Installed, socketNotLoaded)(f)...)
}

func socketFailedOtherwise(f *Facts, s *Scope) (summary, fix string) {
	if slices.Contains([]string{resultResources, resultStartLimit, resultServiceStartLimit, resultTriggerLimit}, s.Socket.Result) || s.unusable(units.Socket) {
		return "", ""
	}
	return fmt.Sprintf("%s has failed (%s): clients are refused", s.ofScope(units.Socket), s.Socket.Result), f.resetAndStart(s, units.Socket)
}

func socketNotLoaded(f *Facts, s *Scope) *Finding {
	if slices.Contains([]string{"", "not-found", "loaded", "masked"}, s.Socket.LoadState) || s.unusable(units.Socket) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("systemd cannot load %s (%s)", s.ofScope(units.Socket), s.Socket.LoadState),
		Evidence: map[string]any{"load_state": s.Socket.LoadState, "file": s.Socket.Path},
		Fix:      f.install(s, f.Program, "--now"),
	}
}

func addressNotOpen(f *Facts, s *Scope) *Finding {
	if !s.Socket.active() || f.Sockets == nil {
		return nil
	}
	closed := slices.DeleteFunc(slices.Clone(s.Socket.Listen), func(a netip.AddrPort) bool { return f.exactly(a) != nil })
	if len(closed) == 0 {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s is active, and nobody listens on %s", s.ofScope(units.Socket), say.Addresses(closed)),
		Evidence: map[string]any{"addresses": say.Addresses(closed)},
		Fix:      f.systemctl(s.Manager, "restart", units.Socket),
	}
}

func serviceFailed(f *Facts, s *Scope) *Finding {
	service := &s.Service
	if service.ActiveState != "failed" && service.SubState != "auto-restart" || s.unusable(units.Service) {
		return nil
	}
	finding := Finding{
		Summary: s.ofScope(units.Service) + " has failed",
		Evidence: map[string]any{
			"result": service.Result, "sub_state": service.SubState, "exit_status": service.ExitStatus, "restarts": service.Restarts,
		},
		Fix: then(f.systemctl(s.Manager, "reset-failed", units.Service), f.systemctl(s.Manager, "start", units.Service)),
	}
	if service.SubState == "auto-restart" {
		finding.Summary = fmt.Sprintf("the launcher of %s ends as soon as systemd starts it", s.ofScope(units.Service))
		finding.Fix = f.gateway(s, "logs") // says why
	}
	// What systemd says when there is no such program (EXIT_EXEC, systemd.exec(5)).
	if service.ExitStatus == 203 && len(service.Argv) > 0 {
		finding.Summary += ": its program cannot be executed, " + service.Argv[0]
		finding.Fix = f.reinstall(s)
	}
	// systemd keeps what has failed, also without its file.
	if !service.exists() {
		finding.Summary += ", and its unit file is gone"
		finding.Fix = f.reinstall(s)
	}
	return &finding
}

func listenDiffers(f *Facts, s *Scope) *Finding {
	if s.Config.Loaded == nil || !s.Socket.exists() || s.Socket.LoadState != "loaded" || len(s.overridden("ListenStream")) > 0 {
		return nil
	}
	missing, extra := without(f.bindable(s.Config.Loaded.Listen), s.Socket.Listen), without(s.Socket.Listen, s.Config.Loaded.Listen)
	var parts []string
	for _, address := range s.Socket.Listen {
		if shown := say.Address(address, s.Config.Loaded.DualStack); s.Socket.IPv6Only && shown != address.String() && !slices.Contains(extra, address) {
			parts = append(parts, fmt.Sprintf("takes no IPv4 clients on %s", shown))
		}
	}
	if len(missing)+len(extra)+len(parts) == 0 {
		return nil
	}
	if len(missing) > 0 {
		parts = append(parts, "lacks "+say.Listen(missing, s.Config.Loaded.DualStack))
	}
	if len(extra) > 0 {
		parts = append(parts, "has "+say.Addresses(extra)+", which the worker does not get")
	}
	return &Finding{
		Summary: fmt.Sprintf("%s %s: %s has changed", s.ofScope(units.Socket), say.List(parts), s.line("listen")),
		Evidence: map[string]any{
			"listen": say.Listen(s.Config.Loaded.Listen, s.Config.Loaded.DualStack), "socket": say.Addresses(s.Socket.Listen), "config": s.Config.Path,
		},
		Fix: f.install(s, f.Program),
	}
}

// bindable returns the addresses of which the kernel has sockets.
func (f *Facts) bindable(addresses []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(addresses), func(a netip.AddrPort) bool { return f.NoIPv6 && a.Addr().Is6() })
}

// without returns the addresses that are not among the others.
func without(addresses, others []netip.AddrPort) []netip.AddrPort {
	return slices.DeleteFunc(slices.Clone(addresses), func(a netip.AddrPort) bool { return slices.Contains(others, a) })
}

func unitChanged(f *Facts, s *Scope) *Finding {
	// Of a unit that it does not load systemd says so for ever.
	if !s.Socket.Reload && !s.Service.Reload || s.unusable(units.Service) {
		return nil
	}
	return &Finding{
		Summary:  "systemd has not read the unit files of " + s.ofScope("openclaw-gateway") + " since they were changed",
		Evidence: map[string]any{"files": []string{s.Socket.Path, s.Service.Path}},
		Fix:      f.systemctl(s.Manager, "daemon-reload"),
	}
}

func mainPIDNotLauncher(f *Facts, s *Scope) *Finding {
	if s.Launcher == nil || s.Launcher.Launcher.PID == s.Service.MainPID || !s.Service.runsLauncher() && !s.Service.running() {
		return nil
	}
	answers := s.Launcher.Launcher.PID
	finding := Finding{
		Summary: fmt.Sprintf("the main process of %s is %d, and the launcher that answers is %d: systemd watches and restarts the wrong one",
			s.ofScope(units.Service), s.Service.MainPID, answers),
		Evidence: map[string]any{"main_pid": s.Service.MainPID, "launcher_pid": answers, "exec_start": say.CommandLine(s.Service.Argv)},
		Fix:      f.reinstall(s),
	}
	if s.Launcher.Launcher.Holder == api.FromItself {
		finding.Summary = fmt.Sprintf("a launcher was started by hand, pid %d, and keeps the one of %s from starting", answers, s.ofScope(units.Service))
		finding.Fix = f.kill(s.Listener)
	}
	return &finding
}

func launcherNotAnswering(f *Facts, s *Scope) *Finding {
	// While it is activating it may not have got there yet.
	up := s.Service.running() && s.Service.runsLauncher() && (s.Service.active() || s.Service.ActiveState == "reloading")
	if s.Answer != Hung && (s.Answer != Absent || !up) {
		return nil
	}
	finding := Finding{
		Summary: fmt.Sprintf("the launcher of %s, pid %d, hangs: its control socket takes a question and gives no answer",
			s.ofScope(units.Service), s.Service.MainPID),
		Evidence: map[string]any{"main_pid": s.Service.MainPID, "active_state": s.Service.ActiveState},
		// The clients wait in the queue until systemd has started the next one.
		Fix: f.systemctl(s.Manager, "kill", "--kill-whom=main", "--signal=KILL", units.Service),
	}
	if s.Answer == Absent {
		finding.Summary = fmt.Sprintf("the launcher of %s, pid %d, has no control socket", s.ofScope(units.Service), s.Service.MainPID)
		finding.Fix = f.systemctl(s.Manager, "restart", units.Service)
	}
	if pid := s.Listener.PID; s.Answer == Hung && !s.Service.running() {
		finding.Summary = fmt.Sprintf("a launcher that was started by hand, pid %d, hangs, and keeps the one of %s from starting: "+
			"its control socket takes a question and gives no answer", pid, s.ofScope(units.Service))
		finding.Evidence["launcher_pid"], finding.Evidence["stopped"] = pid, s.Listener.Stopped
		finding.Fix = f.kill(s.Listener, "-KILL")
		if s.Listener.Stopped {
			finding.Summary = fmt.Sprintf("a launcher that was started by hand, pid %d, was stopped with Ctrl-Z or SIGSTOP, and keeps the one of %s "+
				"from starting", pid, s.ofScope(units.Service))
			finding.Fix = then(f.kill(s.Listener), f.kill(s.Listener, "-CONT"))
		}
	}
	return &finding
}

func launcherVersion(f *Facts, s *Scope) *Finding {
	if s.Launcher.Version == f.Version {
		return nil
	}
	fix, byHand := f.systemctl(s.Manager, "restart", units.Service), ""
	switch {
	case s.Launcher.Launcher.Holder == api.FromItself:
		fix, byHand = f.kill(s.Listener), "; it was started by hand, and has to be so again"
	case len(s.Service.Argv) > 0 && s.Service.Argv[0] != f.Executable:
		fix = f.reinstall(s)
	}
	return &Finding{
		Summary:  fmt.Sprintf("the launcher that runs is version %s, this program is %s%s", s.Launcher.Version, f.Version, byHand),
		Evidence: map[string]any{"launcher": s.Launcher.Version, "program": f.Version, "pid": s.Launcher.Launcher.PID},
		Fix:      fix,
	}
}

func launcherName(f *Facts, s *Scope) *Finding {
	if !s.Service.runsLauncher() {
		return nil
	}
	path := s.Service.Argv[0]
	if !openclaw.Kills(filepath.Base(path), s.Service.Argv) {
		return nil
	}
	if misnamed(path) {
		return &Finding{
			Summary: fmt.Sprintf("the launcher's program is named %s: a second OpenClaw takes a listening process with openclaw in its name "+
				"for a stale gateway and kills it", filepath.Base(path)),
			Evidence: map[string]any{"program": path, "exec_start": say.CommandLine(s.Service.Argv)},
			Fix:      f.reinstall(s),
		}
	}
	return &Finding{
		Summary: "the launcher's command line looks like that of OpenClaw: a second OpenClaw takes it for a stale gateway and kills it; " +
			"no argument of ExecStart= may be OpenClaw's entry file",
		Evidence: map[string]any{"exec_start": say.CommandLine(s.Service.Argv)},
		Fix:      f.systemctl(s.Manager, "edit", "--full", units.Service),
	}
}

// misnamed reports whether a second OpenClaw would kill a launcher for the name of its program.
func misnamed(path string) bool { return openclaw.Kills(filepath.Base(path), nil) }

func programReplaceable(f *Facts, s *Scope) *Finding {
	if s.Replaceable == nil {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%v: %s starts it as root", s.Replaceable, s.ofScope(units.Socket)),
		Evidence: map[string]any{"program": s.Replaceable.Path, "at": s.Replaceable.At},
		Fix:      f.reinstall(s),
	}
}

func noDelegation(f *Facts, s *Scope) *Finding {
	inUnit := s.Service.Cgroup != "" && s.Worker.Cgroup == s.Service.Cgroup
	if !s.Service.runsLauncher() || s.Service.Delegate && !inUnit || len(s.overridden("Delegate", "ProtectControlGroups")) > 0 {
		return nil
	}
	return &Finding{
		Summary:  s.ofScope(units.Service) + " may not make control groups: what a generation leaves is found by descent only",
		Evidence: map[string]any{"delegate": s.Service.Delegate, "worker_cgroup": s.Worker.Cgroup},
		Fix:      f.reinstall(s),
	}
}
