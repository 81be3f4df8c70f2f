package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/lazy"
	"openclaw-gateway/netaddr"
)

// validate checks what no type can say. A key that is known to be wrong already is left alone.
func (l *loader) validate() {
	c := l.config
	l.check("listen", l.checkListen)
	l.check("worker.command", func(key string) { l.checkCommand(key, c.Worker.Command) })
	l.check("worker.directory", l.checkDirectory)
	l.check("worker.environment", l.checkEnvironment)
	l.check("worker.environment_file", l.checkEnvironmentFile)
	l.checkChoice("worker.handoff", c.Worker.Handoff)
	l.checkChoice("worker.cache", c.Worker.Cache)
	l.checkChoice("worker.start", c.Worker.Start)
	l.checkChoice("ready.probe", c.Ready.Probe)
	l.check("ready.path", func(key string) { l.checkPath(key, c.Ready.Path) })
	l.check("ready.host", l.checkHost)
	l.checkPositive("ready.timeout", c.Ready.Timeout)
	l.check("alive.path", func(key string) { l.checkPath(key, c.Alive.Path) })
	if c.Alive.Queue != 0 {
		l.checkLeast("alive.queue", c.Alive.Queue)
	}
	l.checkLeast("alive.interval", c.Alive.Interval)
	l.checkPositive("alive.timeout", c.Alive.Timeout)
	l.check("alive.failures", func(key string) {
		if c.Alive.Failures < 1 {
			l.report(key, "must be at least 1")
		}
	})
	l.checkPositive("alive.stop_timeout", c.Alive.StopTimeout)
	l.checkChoice("stop.to", c.Stop.To)
	l.checkPositive("stop.timeout", c.Stop.Timeout)
	l.checkChoice("restart.mode", c.Restart.Mode)
	l.checkChoice("restart.prewarm", c.Restart.Prewarm)
	l.checkPositive("restart.prewarm_timeout", c.Restart.PrewarmTimeout)
	l.checkPositive("restart.backoff_min", c.Restart.BackoffMin)
	l.checkPositive("restart.backoff_max", c.Restart.BackoffMax)
	l.check("restart.fatal_exit_codes", l.checkFatalExitCodes)
	l.checkChoice("restart.after_exit_0", c.Restart.AfterExit0)
	l.check("alarm.command", func(key string) { l.checkCommand(key, c.Alarm.Command) })
	l.checkChoice("log.format", c.Log.Format)
	l.checkCombinations()
}

func (l *loader) check(key string, rule func(key string)) {
	if l.ok(key) {
		rule(key)
	}
}

// choices are the values that a key takes, where those are words.
var choices = map[string][]string{
	"worker.cache":         {CacheAuto, CacheOff},
	"worker.handoff":       {HandoffAuto, HandoffListenFDs, HandoffPreload, HandoffIntercept},
	"worker.start":         {StartOnDemand, StartAtOnce},
	"ready.probe":          {ProbeAuto, ProbeHTTP, ProbeNotify, ProbeAdopted},
	"restart.mode":         {ModeExclusive, ModeHandover},
	"restart.prewarm":      {PrewarmOff, PrewarmOn},
	"restart.after_exit_0": {AfterExit0Start, AfterExit0Wait},
	"stop.to":              {StopMain, StopAll},
	"log.format":           {FormatAuto, FormatJournal, FormatText, FormatJSON},
}

func (l *loader) checkChoice(key, got string) {
	if l.ok(key) && !slices.Contains(choices[key], got) {
		l.report(key, "%s", noChoice(key, got))
	}
}

func noChoice(key, got string) string {
	return fmt.Sprintf("%q is not one of %s", got, strings.Join(choices[key], ", "))
}

func (l *loader) checkPositive(key string, d time.Duration) {
	if l.ok(key) && d == 0 {
		l.report(key, "must be more than 0")
	}
}

// least is what may be asked of a launcher that does not poll, and of a worker that may take a moment.
const least = 100 * time.Millisecond

func (l *loader) checkLeast(key string, d time.Duration) {
	if l.ok(key) && d < least {
		l.report(key, "must be at least %s", least)
	}
}

func (l *loader) checkCommand(key string, command []string) {
	for i, argument := range command {
		switch {
		case i == 0 && strings.TrimSpace(argument) == "":
			l.report(element(key, i), "the first entry is empty: it is the program")
		case i == 0 && strings.HasPrefix(argument, "~"):
			l.report(element(key, i), "the first entry begins with ~, which only a shell expands: write the whole path")
		case hasNUL(argument):
			l.report(element(key, i), "entry %d holds a NUL byte", i+1)
		}
	}
}

func (l *loader) checkDirectory(key string) {
	directory := l.config.Worker.Directory
	switch {
	case directory == "":
	case !filepath.IsAbs(directory):
		l.report(key, "%q does not begin with /: write the whole path", directory)
	case hasNUL(directory):
		l.report(key, "holds a NUL byte")
	}
}

// checkEnvironment names entries by their number or their name, never by their value: it may be a secret.
func (l *loader) checkEnvironment(key string) {
	seen := map[string]bool{}
	for i, entry := range l.config.Worker.Environment {
		name, value, assigned := strings.Cut(entry, "=")
		switch {
		case !assigned:
			l.report(element(key, i), "entry %d has no =: write NAME=value", i+1)
		case !validName(name):
			l.report(element(key, i), "entry %d has a name that is none: letters, digits and _, no digit first", i+1)
		case Reserved(name):
			l.report(element(key, i), "%s is set by the launcher: remove it", name)
		case seen[name]:
			l.report(element(key, i), "%s is set twice", name)
		case hasNUL(value):
			l.report(element(key, i), "the value of %s holds a NUL byte", name)
		}
		seen[name] = true
	}
}

func (l *loader) checkEnvironmentFile(key string) {
	path := l.config.Worker.EnvironmentFile
	switch {
	case path == "":
	case !filepath.IsAbs(strings.TrimPrefix(path, "-")):
		l.report(key, "%q does not begin with / (after a - that lets it be missing): write the whole path", path)
	case hasNUL(path):
		l.report(key, "holds a NUL byte")
	}
}

func (l *loader) checkPath(key, path string) {
	if path == "" {
		return
	}
	u, err := url.Parse(path)
	// It is not quoted: there may be a password in it.
	switch {
	case err != nil || strings.ContainsAny(path, " \t"):
		l.report(key, "is neither a path nor a URL")
	case (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "":
	case u.Scheme == "" && u.Host == "" && strings.HasPrefix(path, "/"):
	default:
		l.report(key, "neither begins with / nor is an http:// or https:// URL")
	}
}

// hostName is what a Host header has: a name, or an address, and perhaps a port.
var hostName = lazy.Regexp(hostPattern)

func (l *loader) checkHost(key string) {
	// It is not quoted: who writes a whole URL may have a password in it.
	if host := l.config.Ready.Host; !hostName().MatchString(host) {
		l.report(key, "is no host as in a Host header: write a name such as app.example.org, with :PORT behind it if need be, and neither http:// nor a path")
	}
}

func (l *loader) checkFatalExitCodes(key string) {
	for i, code := range l.config.Restart.FatalExitCodes {
		switch {
		case code == 0:
			l.report(element(key, i), "0 is success, and OpenClaw's way to ask for a restart: it cannot be fatal")
		case code < 0 || code > 255:
			l.report(element(key, i), "%d is not an exit code: they go from 1 to 255", code)
		}
	}
}

// checkCombinations looks at keys that are right by themselves.
func (l *loader) checkCombinations() {
	c := l.config
	if l.ok("ready.probe", "ready.path") && c.Ready.Probe == ProbeHTTP && c.Ready.Path == "" {
		l.report("ready.probe", "http needs ready.path, such as /startupz")
	}
	if l.ok("alive.path", "worker.idle_stop") && c.Alive.Path != "" && c.Worker.IdleStop != 0 {
		l.report("alive.path", "a request each alive.interval is a client: worker.idle_stop would never stop the worker. Leave out one of the two")
	}
	if i := slices.IndexFunc(c.Listen, netaddr.Address.IsUnix); l.ok("listen", "worker.idle_stop") && i >= 0 && c.Worker.IdleStop != 0 {
		l.report("worker.idle_stop", "cannot be with %s in listen: the kernel does not tell when a connection of a unix socket ends. Leave out one of the two", c.Listen[i])
	}
	if l.ok("worker.command", "worker.handoff") && len(c.Worker.Command) == 0 && c.Worker.Handoff == HandoffPreload {
		l.report("worker.handoff", "preload is for Node.js, and without worker.command the built-in hello server runs: "+
			"set worker.command, or write auto")
	}
	if l.ok("worker.command", "worker.handoff") && len(c.Worker.Command) == 0 && c.Worker.Handoff == HandoffIntercept {
		l.report("worker.handoff", "intercept is for programs that bind their address themselves, and without worker.command the built-in hello server runs: "+
			"set worker.command, or write auto")
	}
	if i := slices.IndexFunc(c.Listen, netaddr.Address.IsUnix); l.ok("listen", "worker.handoff") && i >= 0 && c.Worker.Handoff == HandoffIntercept {
		l.report("worker.handoff", "intercept cannot hand over %s of listen: it knows addresses of TCP alone. Leave out one of the two", c.Listen[i])
	}
	if l.ok("restart.mode", "worker.handoff") && c.Restart.Mode == ModeHandover && c.Worker.Handoff == HandoffListenFDs {
		l.report("restart.mode", "handover holds the next worker where it begins to listen, and with worker.handoff: listen-fds nothing can hold it: "+
			"write intercept, or preload for Node.js, or restart.mode: exclusive")
	}
	if l.ok("restart.standby", "restart.mode", "restart.prewarm") && c.Restart.Standby && c.Restart.Mode != ModeHandover && c.Restart.Prewarm != PrewarmOn {
		l.report("restart.standby", "a standby starts beside the worker that serves, which restart.mode: exclusive rules out: "+
			"write restart.mode: handover, or restart.prewarm: on, or restart.standby: false")
	}
	if l.ok("restart.mode", "restart.prewarm") && c.Restart.Mode == ModeHandover && c.Restart.Prewarm == PrewarmOn {
		l.report("restart.prewarm", "with restart.mode: handover the next worker starts beside the old one anyway, to where it listens: write off, or restart.mode: exclusive")
	}
	if l.ok("restart.backoff_min", "restart.backoff_max") && c.Restart.BackoffMin > c.Restart.BackoffMax {
		key := "restart.backoff_min"
		if _, given := l.given[key]; !given {
			key = "restart.backoff_max" // the line to change is the one that is there
		}
		l.report(key, "backoff_min (%s) is longer than backoff_max (%s)",
			durationText(c.Restart.BackoffMin), durationText(c.Restart.BackoffMax))
	}
}

func element(key string, index int) string {
	return fmt.Sprintf("%s[%d]", key, index)
}

// hasNUL: no string with a NUL byte can be handed to the kernel, but YAML can write one.
func hasNUL(text string) bool {
	return strings.ContainsRune(text, 0)
}
