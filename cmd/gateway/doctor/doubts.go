package doctor

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
	"openclaw-gateway/units"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/why"
)

// Doubt is something in a configuration that is no mistake, and hardly what is wanted.
type Doubt struct {
	Key      string // where it is
	Sentence string // what it does, and what to write instead
}

// Doubts returns all of a configuration.
func Doubts(cfg *config.Config) []Doubt {
	var all []Doubt
	for _, doubt := range []func(*config.Config) *Doubt{waitsAfterExit0, abruptStop, endless, losesSockets, socketPlace, byHandAlone} {
		if d := doubt(cfg); d != nil {
			all = append(all, *d)
		}
	}
	return all
}

func doubtful(doubt func(*config.Config) *Doubt) func(f *Facts, s *gather.Scope) *Finding {
	return func(f *Facts, s *gather.Scope) *Finding {
		d := doubt(s.Config.Loaded)
		if d == nil {
			return nil
		}
		return &Finding{Summary: s.Line(d.Key) + ": " + d.Sentence, Evidence: map[string]any{"config": s.Config.Path}, Fix: f.edit(s)}
	}
}

func waitsAfterExit0(cfg *config.Config) *Doubt {
	if cfg.Restart.AfterExit0 != config.AfterExit0Wait {
		return nil
	}
	_, openClaw := commandline.Gateway(cfg.Worker.Command, cfg.Worker.Environment)
	switch {
	case openClaw:
		return &Doubt{"restart.after_exit_0", "OpenClaw ends with exit code 0 when it wants to be restarted, and with wait it stays away until somebody connects: write start"}
	case cfg.Worker.Start == config.StartAtOnce:
		return &Doubt{"restart.after_exit_0", "worker.start is at-once, and with wait a worker that has ended by itself stays away until somebody connects: write start, or worker.start: on-demand"}
	}
	return nil
}

// socketPlace looks for who shall have a unix socket, and whether its place is free.
func socketPlace(cfg *config.Config) *Doubt {
	if address, found := systemd.Unremovable(cfg.Listen); found {
		return &Doubt{"listen", fmt.Sprintf("%s is there and no socket, and nobody can listen there: name another path, or remove it yourself", address.Path())}
	}
	for _, address := range cfg.Listen {
		if _, err := systemd.Owner(cfg.Access[address]); err != nil {
			return &Doubt{"listen", fmt.Sprintf("%v, who shall have %s: make it, or name another", err, address)}
		}
	}
	return nil
}

// byHandAlone knows what "gateway install" refuses.
func byHandAlone(cfg *config.Config) *Doubt {
	if err := units.CheckListen(cfg.Listen, cfg.DualStack); err != nil {
		return &Doubt{"listen", fmt.Sprintf("right for a launcher that is run by hand alone, as \"gateway install\" refuses it: %v", err)}
	}
	return nil
}

// losesSockets knows what stands in front of a server and does not pass the sockets on. Of Node.js itself preload has most to
// say; who has chosen listen-fds may have one that listens on descriptor 3.
func losesSockets(cfg *config.Config) *Doubt {
	for _, kind := range map[handoff.Kind][]handoff.Kind{
		handoff.Auto: {handoff.Preload, handoff.Auto}, handoff.Preload: {handoff.Preload}, handoff.ListenFDs: {handoff.Auto},
	}[handoff.Kind(cfg.Worker.Handoff)] {
		if cfg.Worker.Handoff == config.HandoffAuto && kind == handoff.Preload && why.StartsAnother(cfg.Worker.Command) {
			return nil // it gets intercept
		}
		// With that variable, which adopt sets, no OpenClaw starts itself a second time.
		ready := slices.ContainsFunc(cfg.Worker.Environment, func(entry string) bool { return strings.HasSuffix(entry, "_NODE_OPTIONS_READY=1") })
		if away := why.Away(cfg.Worker.Command, kind); away != "" && !ready {
			return &Doubt{"worker.command", away}
		}
	}
	return nil
}

// graceful are the signals at which servers finish what they have begun, where that is another than the SIGTERM at which they
// drop it: nginx(8), php-fpm(8), haproxy(1), lighttpd(8), apache2(8).
var graceful = []struct {
	program func() *regexp.Regexp
	signal  syscall.Signal
}{
	{lazy.Regexp(`^(nginx|openresty)$`), unix.SIGQUIT},
	{lazy.Regexp(`^php-fpm[0-9.]*$`), unix.SIGQUIT},
	{lazy.Regexp(`^haproxy$`), unix.SIGUSR1},
	{lazy.Regexp(`^lighttpd$`), unix.SIGINT},
	{lazy.Regexp(`^apache2$`), unix.SIGWINCH},
}

// endless knows the signals that end nothing by themselves (signal(7), "Standard signals"). SIGWINCH is Apache's.
func endless(cfg *config.Config) *Doubt {
	switch signal := cfg.Stop.Signal; signal {
	case unix.SIGCHLD, unix.SIGURG, unix.SIGCONT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return &Doubt{"stop.signal", fmt.Sprintf("%s ends only a program that has asked for it: with any other each restart waits for stop.timeout (%s), and kills; most end at SIGTERM",
			unix.SignalName(signal), say.Duration(cfg.Stop.Timeout))}
	}
	return nil
}

func abruptStop(cfg *config.Config) *Doubt {
	if len(cfg.Worker.Command) == 0 || cfg.Stop.Signal != unix.SIGTERM {
		return nil
	}
	for _, program := range programs(cfg.Worker.Command) {
		for _, g := range graceful {
			if g.program().MatchString(program) {
				return &Doubt{"stop.signal", fmt.Sprintf("at SIGTERM %s drops the requests that it has begun: write %s, at which it finishes them", program, unix.SignalName(g.signal))}
			}
		}
	}
	return nil
}

// programs are the names of what a command may become: behind wrappers the first word that is neither an option nor its value, nor what
// the wrapper itself wants. Where each may be an option's value, any of them.
func programs(words []string) (names []string) {
	if line := commandline.InShell(words); line != nil {
		words = lastOf(line)
	}
	var user string
	skip := false
	for i, word := range words {
		name := filepath.Base(word)
		option := i > 0 && strings.HasPrefix(words[i-1], "-") && words[i-1] != "--" && !strings.Contains(words[i-1], "=")
		switch {
		case strings.HasPrefix(word, "-"), strings.Contains(word, "="):
		case option && word == user:
		case option:
			names = append(names, name)
		case skip:
			skip = false
		case handoff.Wraps(name):
			user, skip = handoff.Becomes(words[i:]), slices.Contains(withArgument, name)
		default:
			return []string{name}
		}
	}
	return names
}

// withArgument are wrappers with an argument of their own before the program: a user, a file, a folder, a time, processors.
var withArgument = []string{"gosu", "su-exec", "setuidgid", "s6-setuidgid", "flock", "chroot", "envdir", "s6-envdir", "timeout", "taskset"}

// lastOf is what a shell becomes, or waits for at the end.
func lastOf(line []string) []string {
	if at := slices.Index(line, "exec"); at >= 0 {
		return line[at+1:]
	}
	for i, word := range slices.Backward(line) {
		if slices.Contains([]string{";", "&", "|", "(", ")"}, word) && i+1 < len(line) {
			return line[i+1:]
		}
	}
	return line
}
