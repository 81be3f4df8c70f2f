package doctor

import (
	"cmp"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/doctor/gather"
)

// Severity says how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // something does not work, or will not at the next start
	Warning Severity = "warning" // it works, and less well than it could
)

// Finding is one thing that is wrong.
type Finding struct {
	ID       string         `json:"id"`
	Severity Severity       `json:"severity"`
	Summary  string         `json:"summary"`
	Evidence map[string]any `json:"evidence"`
	// Fix is a command to run; where a person has to choose, it opens the file. It is never followed by a comment, which zsh
	// would execute, and in another user's scope it runs as that user.
	Fix string `json:"fix"`

	// theirs says that it is no more than what another user's configuration asks for: nothing of the machine's is wrong, and it is a
	// warning whatever its kind.
	theirs bool
	// about are the instances that it is a matter of; none: it is the machine's.
	about []*gather.Scope
}

// Kind is a kind of findings.
type Kind struct {
	ID       string
	Severity Severity
	Means    string // for the help and docs/doctor.md
	check    func(*Facts) []Finding
}

// Kinds is all that is looked for, in the order in which it is reported: what keeps
// the port from being ours comes before what follows from it.
var Kinds = []Kind{
	{"adoption-unfinished", Error, "\"gateway adopt\" or \"gateway adopt --undo\" was interrupted", adoptionUnfinished},
	{"port-held-by-orphan", Error, "an OpenClaw gateway that no unit keeps running (an orphan) holds the port", heldBy(api.RoleOrphan)},
	{"port-held-by-rival", Error, "an OpenClaw gateway that another unit keeps running (a rival) holds the port", heldBy(api.RoleRival)},
	{"port-held-by-foreign", Error, "another program, or another socket unit, holds the port", heldByForeign},
	{"port-holder-unseen", Warning, "the port is held by a process that this user cannot see", heldByUnseen},
	{"two-scopes-one-port", Error, "two socket units of ours, those of two scopes or of two instances, want the same address", twoScopes},
	{"state-shared", Error, "two instances of ours run an OpenClaw on the same state directory", stateShared},
	{"openclaw-unit-enabled", Error, "OpenClaw's own unit, under any name, is still enabled or running", openclawUnit},
	{"service-missing", Error, "the service's unit file is gone, for example after OpenClaw's own \"gateway uninstall\"", each((*gather.Scope).Installed, serviceMissing)},
	{"user-missing", Error, "the user as whom the service runs does not exist any more", each((*gather.Scope).Installed, userMissing)},
	{"openclaw-restarted", Error, "something that is no unit starts OpenClaw again and again: PM2, supervisord, a loop in a shell", restarted},
	{"unit-overridden", Error, "a drop-in changes a line of our units that the launcher needs", each((*gather.Scope).Installed, unitOverridden)},
	{"socket-not-enabled", Warning, "the socket is not opened at boot", each((*gather.Scope).Installed, socketNotEnabled)},
	{"socket-not-active", Warning, "the socket is enabled and not open", each((*gather.Scope).Installed, socketNotActive)},
	{"socket-port-taken", Error, "the socket has failed because the port was taken, as a rule (Result=resources)", each((*gather.Scope).Installed, socketPortTaken)},
	{"socket-start-limit", Error, "the socket has failed at systemd's start limit, its own or the service's", failed(socketStartLimit)},
	{"socket-trigger-limit", Error, "the socket has failed at systemd's trigger limit", failed(socketTriggerLimit)},
	{"socket-failed", Error, "the socket has failed for another reason, or its unit cannot be loaded", socketFailed},
	{"at-once-not-enabled", Warning, "the worker is to start at once, and the service does not start at boot; or the other way round", each((*gather.Scope).Configured, atOnceNotEnabled)},
	{"address-not-open", Error, "nobody listens on an address of the active socket unit", each((*gather.Scope).Installed, addressNotOpen)},
	{"service-failed", Error, "the service has failed, lacks a unit that it requires, or systemd starts it again and again", each((*gather.Scope).Installed, serviceFailed)},
	{"listen-differs", Error, "listen in the configuration differs from the addresses of the socket unit", each((*gather.Scope).Installed, listenDiffers)},
	{"unit-changed-on-disk", Warning, "a unit file has changed since systemd read it", each((*gather.Scope).Installed, unitChanged)},
	{"main-pid-not-launcher", Error, "the main process of the service is not the launcher that answers", each((*gather.Scope).Installed, mainPIDNotLauncher)},
	{"launcher-not-answering", Error, "the launcher runs and does not answer, or hangs", each((*gather.Scope).Installed, launcherNotAnswering)},
	{"launcher-version", Warning, "the running launcher is of another version than this program", each((*gather.Scope).Answers, launcherVersion)},
	{"program-replaceable", Error, "others than root can replace the program that the system's units start as root", each((*gather.Scope).Installed, programReplaceable)},
	{"launcher-name", Error, "a second OpenClaw would kill the launcher for its name or its command line", each((*gather.Scope).Installed, launcherName)},
	{"no-delegated-cgroup", Error, "the service has no control group of its own, in which the launcher puts each generation", each((*gather.Scope).Installed, noDelegation)},
	{"worker-outside-cgroup", Error, "the worker is not in the control group of its unit", each((*gather.Scope).Installed, workerOutside)},
	{"worker-other-port", Error, "the worker listens on a port that is not in listen", each((*gather.Scope).Configured, workerOtherPort)},
	{"worker-address-clash", Error, "the worker binds an address that overlaps one of listen without being equal to it", each((*gather.Scope).Configured, workerClash)},
	{"worker-failed", Error, "the worker has failed for good", each((*gather.Scope).Answers, workerFailed)},
	{"worker-restarting", Error, "the worker fails again and again", each((*gather.Scope).Answers, workerRestarting)},
	{"worker-hung", Error, "the worker was ready, and does not serve any more", each((*gather.Scope).Answers, workerHung)},
	{"prewarm-not-used", Warning, "the last restart was to be prewarmed (restart.prewarm), and was not", each((*gather.Scope).Answers, notPrewarmed)},
	{"worker-program-missing", Error, "the program of worker.command, or worker.directory, does not exist", each((*gather.Scope).Configured, programMissing)},
	{"alarm-program-missing", Error, "the program of alarm.command does not exist", each((*gather.Scope).Configured, alarmMissing)},
	{"worker-runs-bun", Error, "the worker is run by Bun, which takes sockets by intercept alone", each((*gather.Scope).Configured, workerRunsBun)},
	{"worker-unprivileged", Warning, "the worker binds its address itself, and has lost sudo, su and ping for that", each((*gather.Scope).Answers, workerDeprived)},
	{"handover-exclusive", Warning, "a restart is exclusive, although restart.mode asks for a handover", each((*gather.Scope).Answers, handoverExclusive)},
	{"standby-missing", Warning, "no worker stands by for a crash, although restart.standby asks for one", each((*gather.Scope).Answers, standbyMissing)},
	{"environment-unreadable", Error, "worker.environment_file cannot be read by the service's user, or has a mistake", each((*gather.Scope).Configured, environmentUnreadable)},
	{"environment-doubtful", Warning, "worker.environment_file is empty, or has lines that are no variables or a quote that is not closed", each((*gather.Scope).Configured, environmentDoubtful)},
	{"node-too-old", Error, "this OpenClaw does not run on this Node.js", each((*gather.Scope).Configured, nodeTooOld)},
	{"exit-0-waits", Warning, "a worker that must always run waits for a client after exit code 0", each((*gather.Scope).Configured, doubtful(waitsAfterExit0))},
	{"sockets-lost", Warning, "a program in front of the server, such as npm or sudo, does not pass the sockets on", each((*gather.Scope).Configured, doubtful(losesSockets))},
	{"unix-socket-unsafe", Error, "others than root decide what lies at the path of a unix socket that root's systemd opens", each((*gather.Scope).Configured, socketUnsafe)},
	{"unix-socket-place", Warning, "the owner of a unix socket does not exist, or something else is at its path", each((*gather.Scope).Configured, doubtful(socketPlace))},
	{"stop-not-graceful", Warning, "at stop.signal the worker drops the requests that it has begun", each((*gather.Scope).Configured, doubtful(abruptStop))},
	{"openclaw-replaced", Warning, "another OpenClaw was installed since the one that runs was started", each((*gather.Scope).Answers, openclawReplaced)},
	{"openclaw-not-external", Warning, "OpenClaw's own commands, such as its gateway install, act on our units", each((*gather.Scope).Configured, notExternal)},
	{"config-invalid", Error, "the configuration has mistakes", each((*gather.Scope).HasFile, configInvalid)},
	{"config-rejected", Error, "the last edit was taken back; the last configuration that worked is in use", each((*gather.Scope).Answers, configRejected)},
	{"secrets-readable", Error, "the configuration or the environment file holds secrets and others can read it", secretsReadable},
	{"cache-writable-by-others", Error, "others can write to the directory in which Node.js keeps what it has compiled", each((*gather.Scope).Configured, cacheWritable)},
	{"backlog-too-small", Warning, "a queue is shorter than the unit says", each((*gather.Scope).Installed, backlogSmall)},
	{"somaxconn-too-small", Warning, "the kernel cuts the queues shorter than the unit says", each((*gather.Scope).Installed, somaxconnSmall)},
	{"no-linger", Warning, "a user's units end with the last session", each((*gather.Scope).Installed, noLinger)},
	{"systemd-too-old", Error, "systemd is older than 252", systemdOld},
	{"kernel-too-old", Error, "the kernel lacks what the launcher or the handoff needs", kernelOld},
}

// Facts are what was gathered, with the commands that are right for who asks.
type Facts struct{ *gather.Facts }

// each checks the scopes of which is is true: there is at most one finding for each of them.
func each(is func(*gather.Scope) bool, check func(*Facts, *gather.Scope) *Finding) func(*Facts) []Finding {
	return func(f *Facts) []Finding {
		var findings []Finding
		for _, s := range f.Which(is) {
			if finding := check(f, s); finding != nil {
				finding.Evidence, finding.about = inScope(s, finding.Evidence), []*gather.Scope{s}
				findings = append(findings, *finding)
			}
		}
		return findings
	}
}

// failed checks the sockets that have failed; one of which there is nothing to say is no finding.
func failed(check func(f *Facts, s *gather.Scope) (summary, fix string)) func(*Facts) []Finding {
	return each((*gather.Scope).Installed, func(f *Facts, s *gather.Scope) *Finding {
		if s.Socket.ActiveState != "failed" || s.Replaced() || s.ServiceGone() {
			return nil
		}
		summary, fix := check(f, s)
		if summary == "" {
			return nil
		}
		return &Finding{Summary: summary, Evidence: map[string]any{"result": s.Socket.Result}, Fix: fix}
	})
}

// Examine returns what is wrong.
func Examine(facts *Facts) []Finding {
	findings := []Finding{}
	for _, kind := range Kinds {
		for _, finding := range kind.check(facts) {
			finding.ID, finding.Severity = kind.ID, cmp.Or(finding.Severity, kind.Severity)
			if finding.theirs {
				finding.Severity = Warning
			}
			findings = append(findings, finding)
		}
	}
	return findings
}
