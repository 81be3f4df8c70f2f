package doctor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"deps.dev/util/semver"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
)

func (f *Facts) mend(s *gather.Scope, all []dropins.Override) string {
	return dropins.Mend(s.Manager, f.UID, all)
}

func unitOverridden(f *Facts, s *gather.Scope) *Finding {
	all := s.Overridden()
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
		s.OfScope(s.Instance.Directory()), strings.Join(does, "; "))
	finding.Evidence["files"], finding.Evidence["lines"] = files, does
	return finding
}

func socketNotEnabled(f *Facts, s *gather.Scope) *Finding {
	if s.Socket.Enabled() {
		return nil
	}
	finding := Finding{
		Summary:  fmt.Sprintf("%s is %s: after a boot nobody opens the port", s.OfScope(s.Instance.Socket()), s.Socket.FileState),
		Evidence: map[string]any{"unit_file_state": s.Socket.FileState, "active_state": s.Socket.ActiveState},
		Fix:      f.systemctl(s.Manager, "enable", "--now", s.Instance.Socket()),
	}
	switch {
	case !s.Socket.Exists():
		finding.Summary = fmt.Sprintf("%s is missing: the service gets no sockets from systemd", s.OfScope(s.Instance.Socket()))
		finding.Fix = f.install(s, f.Program, "--now")
	case s.Socket.LoadState == "masked":
		// systemd masks no unit whose file is there: ours is gone.
		masked := []string{"unmask", s.Instance.Socket()}
		if s.Service.LoadState == "masked" {
			masked = append(masked, s.Instance.Service())
		}
		finding.Fix = then(f.systemctl(s.Manager, masked...), f.install(s, f.Program, "--now"))
	}
	return &finding
}

// atOnceNotEnabled compares when the worker is to start with when the service does.
func atOnceNotEnabled(f *Facts, s *gather.Scope) *Finding {
	atOnce := s.Config.Loaded.Worker.Start == config.StartAtOnce
	if !s.Service.RunsLauncher() || s.ServiceGone() || !s.Socket.Enabled() || atOnce == s.Service.Enabled() {
		return nil
	}
	finding := &Finding{
		Summary: fmt.Sprintf("worker.start is at-once, and %s is %s: after a boot the worker starts with the first client",
			s.OfScope(s.Instance.Service()), s.Service.FileState),
		Evidence: map[string]any{"unit_file_state": s.Service.FileState, "config": s.Config.Path},
		Fix:      f.install(s, f.Program),
	}
	if !atOnce {
		finding.Summary = fmt.Sprintf("worker.start is on-demand, and %s is enabled: after a boot the launcher runs, and the worker starts with the first client",
			s.OfScope(s.Instance.Service()))
		finding.Fix = f.systemctl(s.Manager, "disable", s.Instance.Service())
	}
	return finding
}

func socketNotActive(f *Facts, s *gather.Scope) *Finding {
	opens := func(o dropins.Override) bool { return o.Broken && o.Restart && o.Unit == s.Instance.Socket() }
	if !s.Socket.Enabled() || s.Socket.ActiveState != "inactive" || slices.ContainsFunc(s.Overridden(), opens) {
		return nil // failed, not enabled, and what a drop-in keeps from it, are findings of their own
	}
	return &Finding{
		Summary:  s.OfScope(s.Instance.Socket()) + " is stopped: nobody listens, clients are refused",
		Evidence: map[string]any{"active_state": s.Socket.ActiveState},
		Fix:      f.systemctl(s.Manager, "start", s.Instance.Socket()),
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

func (f *Facts) resetAndStart(s *gather.Scope, reset ...string) string {
	return then(f.systemctl(s.Manager, append([]string{"reset-failed"}, reset...)...), f.systemctl(s.Manager, "start", s.Instance.Socket()))
}

func socketPortTaken(f *Facts, s *gather.Scope) *Finding {
	if s.Replaced() || s.ServiceGone() || s.Socket.ActiveState != "failed" || s.Socket.Result != resultResources || s.Unusable(s.Instance.Socket()) || len(s.Service.Lacks) > 0 {
		return nil
	}
	if left := f.bindable(s.Socket.Listen); len(left) < len(s.Socket.Listen) {
		return &Finding{
			Summary: fmt.Sprintf("%s could not bind its addresses: this kernel has no IPv6, and %s %s among them", s.OfScope(s.Instance.Socket()),
				say.Addresses(without(s.Socket.Listen, left)), say.Are(len(s.Socket.Listen)-len(left))),
			Evidence: map[string]any{"result": s.Socket.Result, "kernel": f.Kernel},
			Fix:      f.install(s, f.Program, "--now"),
		}
	}
	var steps, who []string
	// What the kernel says to conflict; of a wildcard it is not said with which family.
	inTheWay := func(a netaddr.Address) bool { return s.Socket.Overlaps(a, true) }
	summary := s.OfScope(s.Instance.Socket()) + " could not bind its addresses"
	finding := func(fix string) *Finding {
		return &Finding{Summary: summary, Evidence: map[string]any{"result": s.Socket.Result}, Fix: fix}
	}
	// wish is for another user's unit: it gives way.
	wish := func() *Finding {
		summary += fmt.Sprintf(", which another has: name another port in %s", s.Line("listen"))
		wish := finding(then(f.move(s), f.systemctl(s.Manager, "start", s.Instance.Socket())))
		wish.theirs = true
		return wish
	}
	for i := range f.Scopes {
		o := &f.Scopes[i]
		if o.Manager == s.Manager || !o.Socket.Active() ||
			!slices.ContainsFunc(o.Socket.Listen, func(a netaddr.Address) bool { return s.Socket.Overlaps(a, !o.Socket.IPv6Only) }) {
			continue
		}
		if f.Theirs(s) {
			return wish()
		}
		summary += "; the port is held by " + o.OfScope(o.Instance.Socket())
		switch {
		case f.Theirs(o):
			summary += ": name another port there"
			return finding(then(f.move(o), f.systemctl(s.Manager, "start", s.Instance.Socket())))
		default:
			// As two-scopes-one-port says: who has the port serves, and nothing of it is to be killed.
			return finding(f.disable(s))
		}
	}
	sockets, own := f.sockets(), gather.WishOf(s)
	if f.Theirs(s) {
		sockets = f.Sockets
		another := func(h holders.Holder) bool {
			return slices.ContainsFunc(h.Addresses, inTheWay) && !own.Holds(h) && !f.isMain(h) && !f.isUnit(h)
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
			if f.Theirs(s) {
				step = f.remedy(h, own.UID)
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
		summary = fmt.Sprintf("%s could not bind its addresses, or could not start its service: nobody holds them that can be seen. "+
			"If it fails again, `%s` says why", s.OfScope(s.Instance.Socket()), f.systemctl(s.Manager, "status", s.Instance.Socket()))
	}
	return finding(then(append(steps, f.systemctl(s.Manager, "start", s.Instance.Socket()))...))
}

func socketStartLimit(f *Facts, s *gather.Scope) (summary, fix string) {
	switch s.Socket.Result {
	case resultStartLimit:
		return s.OfScope(s.Instance.Socket()) + " was started too often, and systemd opens it no more", f.resetAndStart(s, s.Instance.Socket())
	case resultServiceStartLimit:
		return s.OfScope(s.Instance.Service()) + " was started too often, and systemd has closed its socket", f.resetAndStart(s, s.Instance.Socket(), s.Instance.Service())
	}
	return "", ""
}

func socketTriggerLimit(f *Facts, s *gather.Scope) (summary, fix string) {
	if s.Socket.Result != resultTriggerLimit || s.Unusable(s.Instance.Socket()) {
		return "", ""
	}
	return s.OfScope(s.Instance.Socket()) + " has started its service too often, and systemd has closed it", f.resetAndStart(s, s.Instance.Socket(), s.Instance.Service())
}

func socketFailed(f *Facts) []Finding {
	return append(failed(socketFailedOtherwise)(f), each((*gather.Scope).Installed, socketNotLoaded)(f)...)
}

func socketFailedOtherwise(f *Facts, s *gather.Scope) (summary, fix string) {
	if slices.Contains([]string{resultResources, resultStartLimit, resultServiceStartLimit, resultTriggerLimit}, s.Socket.Result) || s.Unusable(s.Instance.Socket()) {
		return "", ""
	}
	return fmt.Sprintf("%s has failed (%s): clients are refused", s.OfScope(s.Instance.Socket()), s.Socket.Result), f.resetAndStart(s, s.Instance.Socket())
}

func socketNotLoaded(f *Facts, s *gather.Scope) *Finding {
	if slices.Contains([]string{"", "not-found", "loaded", "masked"}, s.Socket.LoadState) || s.Unusable(s.Instance.Socket()) {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("systemd cannot load %s (%s)", s.OfScope(s.Instance.Socket()), s.Socket.LoadState),
		Evidence: map[string]any{"load_state": s.Socket.LoadState, "file": s.Socket.Path},
		Fix:      f.install(s, f.Program, "--now"),
	}
}

func addressNotOpen(f *Facts, s *gather.Scope) *Finding {
	if !s.Socket.Active() || f.Sockets == nil {
		return nil
	}
	closed := slices.DeleteFunc(slices.Clone(s.Socket.Listen), func(a netaddr.Address) bool { return f.Exactly(a) != nil })
	if len(closed) == 0 {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%s is active, and nobody listens on %s", s.OfScope(s.Instance.Socket()), say.Addresses(closed)),
		Evidence: map[string]any{"addresses": say.Addresses(closed)},
		Fix:      f.systemctl(s.Manager, "restart", s.Instance.Socket()),
	}
}

// serviceMissing knows what OpenClaw's own "gateway uninstall" leaves. As long as the manager has not looked again it goes on with
// what it has read, and then the next client has systemd fail the socket.
func serviceMissing(f *Facts, s *gather.Scope) *Finding {
	if !s.ServiceGone() {
		return nil
	}
	summary := "has no file any more, as after OpenClaw's own \"gateway uninstall\": the next client cannot start it, and the socket fails"
	if s.Socket.ActiveState == "failed" {
		summary = "has no file any more, as after OpenClaw's own \"gateway uninstall\", and the socket has failed when a client came"
	}
	return &Finding{
		Summary:  s.OfScope(s.Instance.Service()) + " " + summary,
		Evidence: map[string]any{"load_state": s.Service.LoadState, "file": s.Service.Path, "socket": s.Socket.ActiveState, "active_state": s.Service.ActiveState},
		Fix:      f.comeBack(s),
	}
}

// userMissing names the command that there is for it: whose the service is to be from now on, only a person can say. One that a drop-in
// names is another finding.
func userMissing(f *Facts, s *gather.Scope) *Finding {
	if s.Service.User == "" || !s.Service.RunsLauncher() || s.UID() >= 0 || s.Unusable(s.Instance.Service()) {
		return nil
	}
	return &Finding{
		Summary: fmt.Sprintf("%s runs as user %s, and there is no such user: nobody is served. Create that user again, or have it run as another (`%s`, whose the configuration has to be then); "+
			"the command removes it", s.OfScope(s.Instance.Service()), s.Service.User, f.gateway(s, "install", "--run-as", "USER")),
		Evidence: map[string]any{"user": s.Service.User},
		Fix:      f.gateway(s, "uninstall"),
	}
}

func serviceFailed(f *Facts, s *gather.Scope) *Finding {
	service := &s.Service
	if s.Replaced() || s.ServiceGone() {
		return nil
	}
	if len(service.Lacks) > 0 && !s.Unusable(s.Instance.Service()) {
		needed, _, _ := strings.Cut(service.Lacks[0], " ")
		return &Finding{
			Summary: fmt.Sprintf("systemd does not start %s without %s: mend that, or take it out of what the service requires",
				s.OfScope(s.Instance.Service()), say.List(service.Lacks)),
			Evidence: map[string]any{"lacks": service.Lacks, "socket": s.Socket.ActiveState},
			Fix:      f.systemctl(s.Manager, "status", needed),
		}
	}
	again := strings.HasPrefix(service.SubState, "auto-restart") // since systemd 254 there is "auto-restart-queued" too
	if service.ActiveState != "failed" && !again || s.Unusable(s.Instance.Service()) {
		return nil
	}
	finding := Finding{
		Summary: s.OfScope(s.Instance.Service()) + " has failed",
		Evidence: map[string]any{
			"result": service.Result, "sub_state": service.SubState, "exit_status": service.ExitStatus, "restarts": service.Restarts,
		},
		Fix: then(f.systemctl(s.Manager, "reset-failed", s.Instance.Service()), f.systemctl(s.Manager, "start", s.Instance.Service())),
	}
	if again {
		finding.Summary = fmt.Sprintf("the launcher of %s ends as soon as systemd starts it", s.OfScope(s.Instance.Service()))
		finding.Fix = f.logs(s) // says why
	}
	// What systemd says when there is no such program (EXIT_EXEC, systemd.exec(5)).
	if service.ExitStatus == 203 && len(service.Argv) > 0 {
		finding.Summary += ": its program cannot be executed, " + service.Argv[0]
		finding.Fix = f.reinstall(s)
	}
	return &finding
}

func listenDiffers(f *Facts, s *gather.Scope) *Finding {
	if s.Config.Loaded == nil || !s.Socket.Exists() || s.Socket.LoadState != "loaded" || len(s.Overridden("ListenStream")) > 0 {
		return nil
	}
	wanted, extra := without(f.bindable(s.Config.Loaded.Listen), s.Socket.Listen), without(s.Socket.Listen, s.Config.Loaded.Listen)
	// "gateway install" refuses these, and another finding says what to change.
	missing := slices.DeleteFunc(slices.Clone(wanted), func(a netaddr.Address) bool {
		return s.Misplaced[a] != nil || a.IsUnix() && len(wanting(f.Sockets, []netaddr.Address{a})) > 0
	})
	left := slices.DeleteFunc(slices.Clone(extra), func(a netaddr.Address) bool { return s.Misplaced[a] == nil })
	extra = slices.DeleteFunc(extra, netaddr.Address.IsUnix) // the worker gets that too
	var parts []string
	if len(left) > 0 {
		parts = append(parts, "still has "+say.Addresses(left))
	}
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
	fix := f.install(s, f.Program)
	if len(missing) < len(wanted) {
		fix = f.move(s)
	}
	return &Finding{
		Summary: fmt.Sprintf("%s %s: %s has changed", s.OfScope(s.Instance.Socket()), say.List(parts), s.Line("listen")),
		Evidence: map[string]any{
			"listen": say.Listen(s.Config.Loaded.Listen, s.Config.Loaded.DualStack), "socket": say.Addresses(s.Socket.Listen), "config": s.Config.Path,
		},
		Fix: fix,
	}
}

// socketUnsafe finds the first unix socket of a configuration where others than root decide what the system's manager meets.
func socketUnsafe(f *Facts, s *gather.Scope) *Finding {
	for _, address := range s.Config.Loaded.Listen {
		others := s.Misplaced[address]
		if others == nil {
			continue
		}
		finding := Finding{
			Summary:  fmt.Sprintf("%s: %s", s.Line("listen"), systemd.Elsewhere(address, others, s.Instance)),
			Evidence: map[string]any{"address": address.String(), "at": others.At, "config": s.Config.Path},
			Fix:      f.edit(s),
		}
		if slices.Contains(s.Socket.Listen, address) {
			finding.Fix = f.move(s)
		} else {
			finding.theirs = s.Config.Others != nil
		}
		return &finding
	}
	return nil
}

// bindable returns the addresses of which the kernel has sockets.
func (f *Facts) bindable(addresses []netaddr.Address) []netaddr.Address {
	return slices.DeleteFunc(slices.Clone(addresses), func(a netaddr.Address) bool { return f.NoIPv6 && a.Addr().Is6() })
}

// without returns the addresses that are not among the others.
func without(addresses, others []netaddr.Address) []netaddr.Address {
	return slices.DeleteFunc(slices.Clone(addresses), func(a netaddr.Address) bool { return slices.Contains(others, a) })
}

func unitChanged(f *Facts, s *gather.Scope) *Finding {
	// Of a unit that it does not load systemd says so for ever.
	if !s.Socket.Reload && !s.Service.Reload || s.Service.Gone || s.Unusable(s.Instance.Service()) {
		return nil
	}
	return &Finding{
		Summary:  "systemd has not read the unit files of " + s.OfScope(s.Instance.Directory()) + " since they were changed",
		Evidence: map[string]any{"files": []string{s.Socket.Path, s.Service.Path}},
		Fix:      f.systemctl(s.Manager, "daemon-reload"),
	}
}

func mainPIDNotLauncher(f *Facts, s *gather.Scope) *Finding {
	if s.Answer == gather.Foreign {
		user := systemd.UserName(s.Listener.UID)
		return &Finding{
			Summary: fmt.Sprintf("a process of user %s, pid %d, has replaced the control socket of %s, whose main process is %d: what it says there "+
				"is not believed, nor is it asked for anything; the next start makes that socket anew, and whatever runs as user %s can replace it again",
				user, s.Listener.PID, s.OfScope(s.Instance.Service()), s.Service.MainPID, user),
			Evidence: map[string]any{"main_pid": s.Service.MainPID, "pid": s.Listener.PID, "by_user": user},
			Fix:      f.systemctl(s.Manager, "restart", s.Instance.Service()),
		}
	}
	if s.Launcher == nil || s.Launcher.Launcher.PID == s.Service.MainPID || !s.Service.RunsLauncher() && !s.Service.Running() {
		return nil
	}
	answers := s.Launcher.Launcher.PID
	finding := Finding{
		Summary: fmt.Sprintf("the main process of %s is %d, and the launcher that answers is %d: systemd watches and restarts the wrong one",
			s.OfScope(s.Instance.Service()), s.Service.MainPID, answers),
		Evidence: map[string]any{"main_pid": s.Service.MainPID, "launcher_pid": answers, "exec_start": say.CommandLine(s.Service.Argv)},
		Fix:      f.reinstall(s),
	}
	if s.Launcher.Launcher.Holder == api.FromItself {
		finding.Summary = fmt.Sprintf("a launcher was started by hand, pid %d, and keeps the one of %s from starting", answers, s.OfScope(s.Instance.Service()))
		finding.Fix = f.kill(s.Listener)
	}
	return &finding
}

func launcherNotAnswering(f *Facts, s *gather.Scope) *Finding {
	// While it is activating it may not have got there yet.
	up := s.Service.Running() && s.Service.RunsLauncher() && (s.Service.Active() || s.Service.ActiveState == "reloading")
	if s.Answer != gather.Hung && (s.Answer != gather.Absent || !up) {
		return nil
	}
	finding := Finding{
		Summary: fmt.Sprintf("the launcher of %s, pid %d, hangs: its control socket takes a question and gives no answer",
			s.OfScope(s.Instance.Service()), s.Service.MainPID),
		Evidence: map[string]any{"main_pid": s.Service.MainPID, "active_state": s.Service.ActiveState},
		// The clients wait in the queue until systemd has started the next one.
		Fix: f.systemctl(s.Manager, "kill", "--kill-whom=main", "--signal=KILL", s.Instance.Service()),
	}
	if s.Answer == gather.Absent {
		finding.Summary = fmt.Sprintf("the launcher of %s, pid %d, has no control socket", s.OfScope(s.Instance.Service()), s.Service.MainPID)
		finding.Fix = f.systemctl(s.Manager, "restart", s.Instance.Service())
	}
	if pid := s.Listener.PID; s.Answer == gather.Hung && !s.Service.Running() {
		finding.Summary = fmt.Sprintf("a launcher that was started by hand, pid %d, hangs, and keeps the one of %s from starting: "+
			"its control socket takes a question and gives no answer", pid, s.OfScope(s.Instance.Service()))
		finding.Evidence["launcher_pid"], finding.Evidence["stopped"] = pid, s.Listener.Stopped
		finding.Fix = f.kill(s.Listener, "-KILL")
		if s.Listener.Stopped {
			finding.Summary = fmt.Sprintf("a launcher that was started by hand, pid %d, was stopped with Ctrl-Z or SIGSTOP, and keeps the one of %s "+
				"from starting", pid, s.OfScope(s.Instance.Service()))
			finding.Fix = then(f.kill(s.Listener), f.kill(s.Listener, "-CONT"))
		}
	}
	return &finding
}

func launcherVersion(f *Facts, s *gather.Scope) *Finding {
	if s.Launcher.Version == f.Version {
		return nil
	}
	fix, byHand := f.systemctl(s.Manager, "restart", s.Instance.Service()), ""
	switch {
	case s.Launcher.Launcher.Holder == api.FromItself:
		fix, byHand = f.kill(s.Listener), "; it was started by hand, and has to be so again"
	case len(s.Service.Argv) > 0 && s.Service.Argv[0] != f.Executable:
		fix = f.reinstall(s)
	case f.upgrades(s):
		fix = f.gateway(s, "upgrade")
	}
	return &Finding{
		Summary:  fmt.Sprintf("the launcher that runs is version %s, this program is %s%s", s.Launcher.Version, f.Version, byHand),
		Evidence: map[string]any{"launcher": s.Launcher.Version, "program": f.Version, "pid": s.Launcher.Launcher.PID},
		Fix:      fix,
	}
}

// upgrades reports whether the launcher of a scope can become this program in place, as far as that can be told: it knows how, this
// program is none that it refuses, and its worker serves, or none is there.
func (f *Facts) upgrades(s *gather.Scope) bool {
	for _, v := range []string{s.Launcher.Version, f.Version} {
		if _, err := semver.NPM.Parse(v); err != nil || semver.NPM.Compare(v, firstUpgradable) < 0 {
			return false
		}
	}
	serves := s.Launcher.Worker.State == api.StateReady && s.Launcher.Worker.Hung == nil
	return semver.NPM.Compare(s.Launcher.Version, f.Version) <= 0 && (serves || s.Launcher.Worker.State == api.StateWaiting)
}

// firstUpgradable is the first version that "gateway upgrade" has.
const firstUpgradable = "0.2.0"

func launcherName(f *Facts, s *gather.Scope) *Finding {
	if !s.Service.RunsLauncher() {
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
		Fix:      f.systemctl(s.Manager, "edit", "--full", s.Instance.Service()),
	}
}

// misnamed reports whether a second OpenClaw would kill a launcher for the name of its program.
func misnamed(path string) bool { return openclaw.Kills(filepath.Base(path), nil) }

func programReplaceable(f *Facts, s *gather.Scope) *Finding {
	if s.Replaceable == nil {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("%v: %s starts it as root", s.Replaceable, s.OfScope(s.Instance.Socket())),
		Evidence: map[string]any{"program": s.Replaceable.Path, "at": s.Replaceable.At},
		Fix:      f.reinstall(s),
	}
}

func noDelegation(f *Facts, s *gather.Scope) *Finding {
	inUnit := s.Service.Cgroup != "" && s.Worker.Cgroup == s.Service.Cgroup
	if !s.Service.RunsLauncher() || s.Service.Delegate && !inUnit || len(s.Overridden("Delegate", "ProtectControlGroups")) > 0 {
		return nil
	}
	return &Finding{
		Summary:  s.OfScope(s.Instance.Service()) + " may not make control groups: what the worker leaves behind is found only by which process started it",
		Evidence: map[string]any{"delegate": s.Service.Delegate, "worker_cgroup": s.Worker.Cgroup},
		Fix:      f.reinstall(s),
	}
}

// adoptionUnfinished names what to run: whoever adopts again has it put back first, too.
func adoptionUnfinished(f *Facts) (findings []Finding) {
	for _, half := range f.Halves {
		findings = append(findings, Finding{
			Summary:  fmt.Sprintf("%s, begun at %s, %s: what was there can be put back", half, say.Clock(half.Since), half.Is()),
			Evidence: map[string]any{"scope": string(half.Scope), "instance": half.Instance, "unit": half.Old},
			Fix:      half.Manager.As(f.UID, half.Undo(f.Program, string(half.Scope))...),
		})
	}
	return findings
}
