package doctor

import (
	"cmp"

	"openclaw-gateway/cmd/gateway/api"
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
}

// Kind is a kind of findings.
type Kind struct {
	ID       string
	Severity Severity
	Means    string // for the help and the README
	check    func(*Facts) []Finding
}

// Kinds is all that is looked for, in the order in which it is reported: what keeps
// the port from being ours comes before what follows from it.
var Kinds = []Kind{
	{"port-held-by-orphan", Error, "an OpenClaw gateway that nobody supervises holds the port", heldBy(api.RoleOrphan)},
	{"port-held-by-rival", Error, "an OpenClaw gateway that another unit keeps running holds the port", heldBy(api.RoleRival)},
	{"port-held-by-foreign", Error, "another program, or another socket unit, holds the port", heldByForeign},
	{"port-holder-unseen", Warning, "the port is held by a process that this user cannot see", heldByUnseen},
	{"two-scopes-one-port", Error, "the units of two scopes, the system's and a user's, want the same address", twoScopes},
	{"openclaw-unit-enabled", Error, "OpenClaw's own unit, under any name, is still enabled or running", openclawUnit},
	{"openclaw-restarted", Error, "something that is no unit starts OpenClaw again and again: PM2, supervisord, a loop in a shell", restarted},
	{"unit-overridden", Error, "a drop-in changes a line of our units that the launcher needs", each((*Scope).Installed, unitOverridden)},
	{"socket-not-enabled", Warning, "the socket is not opened at boot", each((*Scope).Installed, socketNotEnabled)},
	{"socket-not-active", Warning, "the socket is enabled and not open", each((*Scope).Installed, socketNotActive)},
	{"socket-port-taken", Error, "the socket has failed because the port was taken (Result=resources)", each((*Scope).Installed, socketPortTaken)},
	{"socket-start-limit", Error, "the socket has failed at systemd's start limit, its own or the service's", failed(socketStartLimit)},
	{"socket-trigger-limit", Error, "the socket has failed at systemd's trigger limit", failed(socketTriggerLimit)},
	{"socket-failed", Error, "the socket has failed for another reason, or its unit cannot be loaded", socketFailed},
	{"at-once-not-enabled", Warning, "the worker is to start at once, and after a boot it does not; or the service starts at boot, and the worker does not", each((*Scope).configured, atOnceNotEnabled)},
	{"address-not-open", Error, "nobody listens on an address of the active socket unit", each((*Scope).Installed, addressNotOpen)},
	{"service-failed", Error, "the service has failed, or systemd starts it again and again", each((*Scope).Installed, serviceFailed)},
	{"listen-differs", Error, "listen in the configuration differs from the addresses of the socket unit", each((*Scope).Installed, listenDiffers)},
	{"unit-changed-on-disk", Warning, "a unit file has changed since systemd has read it", each((*Scope).Installed, unitChanged)},
	{"main-pid-not-launcher", Error, "the main process of the service is not the launcher that answers", each((*Scope).Installed, mainPIDNotLauncher)},
	{"launcher-not-answering", Error, "the launcher runs and does not answer, or hangs", each((*Scope).Installed, launcherNotAnswering)},
	{"launcher-version", Warning, "the launcher that runs is of another version than this program", each((*Scope).answers, launcherVersion)},
	{"program-replaceable", Error, "others than root can replace the program that the system's units start as root", each((*Scope).Installed, programReplaceable)},
	{"launcher-name", Error, "a second OpenClaw would kill the launcher for its name or its command line", each((*Scope).Installed, launcherName)},
	{"no-delegated-cgroup", Error, "the service has no control group of its own to put generations in", each((*Scope).Installed, noDelegation)},
	{"worker-outside-cgroup", Error, "the worker is not in the control group of its unit", each((*Scope).Installed, workerOutside)},
	{"worker-other-port", Error, "the worker listens on another port than those of listen", each((*Scope).configured, workerOtherPort)},
	{"worker-address-clash", Error, "the worker binds an address that overlaps a held one without being equal to it", each((*Scope).configured, workerClash)},
	{"worker-failed", Error, "the worker has failed for good", each((*Scope).answers, workerFailed)},
	{"worker-restarting", Error, "the worker fails again and again", each((*Scope).answers, workerRestarting)},
	{"worker-hung", Error, "the worker was ready and does not serve", each((*Scope).answers, workerHung)},
	{"worker-program-missing", Error, "what worker.command or worker.directory names is not there", each((*Scope).configured, programMissing)},
	{"alarm-program-missing", Error, "the program of alarm.command is not there", each((*Scope).configured, alarmMissing)},
	{"worker-runs-bun", Error, "the worker is run by Bun, which cannot inherit sockets", each((*Scope).configured, workerRunsBun)},
	{"environment-unreadable", Error, "worker.environment_file cannot be read by the service's user, or has a mistake", each((*Scope).configured, environmentUnreadable)},
	{"node-too-old", Error, "Node.js is none that this OpenClaw runs on", each((*Scope).configured, nodeTooOld)},
	{"exit-0-waits", Warning, "a worker that is always needed waits for a client after exit code 0", each((*Scope).configured, doubtful(waitsAfterExit0))},
	{"sockets-lost", Warning, "what stands in front of the server does not pass the sockets on", each((*Scope).configured, doubtful(losesSockets))},
	{"stop-not-graceful", Warning, "the worker drops the requests that it has begun at stop.signal", each((*Scope).configured, doubtful(abruptStop))},
	{"openclaw-replaced", Warning, "another OpenClaw lies where the one that runs was started from", each((*Scope).answers, openclawReplaced)},
	{"config-invalid", Error, "the configuration has mistakes", each((*Scope).hasFile, configInvalid)},
	{"config-rejected", Error, "the last edit was taken back; the last configuration that worked is in use", each((*Scope).answers, configRejected)},
	{"secrets-readable", Error, "the configuration or the environment file holds secrets and others can read it", secretsReadable},
	{"backlog-too-small", Warning, "a queue is shorter than the unit says", each((*Scope).Installed, backlogSmall)},
	{"somaxconn-too-small", Warning, "the kernel cuts the queues shorter than the unit says", each((*Scope).Installed, somaxconnSmall)},
	{"no-linger", Warning, "a user's units end with the last session", each((*Scope).Installed, noLinger)},
	{"systemd-too-old", Error, "systemd is older than 252", systemdOld},
	{"kernel-too-old", Error, "the kernel lacks what the launcher or the handoff needs", kernelOld},
}

// each checks the scopes of which is is true: there is at most one finding for each of them.
func each(is func(*Scope) bool, check func(*Facts, *Scope) *Finding) func(*Facts) []Finding {
	return func(f *Facts) []Finding {
		var findings []Finding
		for _, s := range f.which(is) {
			if finding := check(f, s); finding != nil {
				finding.Evidence = s.evidence(finding.Evidence)
				findings = append(findings, *finding)
			}
		}
		return findings
	}
}

// failed checks the sockets that have failed; one of which there is nothing to say is no finding.
func failed(check func(f *Facts, s *Scope) (summary, fix string)) func(*Facts) []Finding {
	return each((*Scope).Installed, func(f *Facts, s *Scope) *Finding {
		if s.Socket.ActiveState != "failed" {
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
