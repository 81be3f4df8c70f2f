package why

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/lazy"
	"openclaw-gateway/worker/handoff"
)

// End is a generation that has ended by itself.
type End struct {
	Code     int         // exit code; -1 when a signal ended it
	Signal   unix.Signal // 0 when it exited
	Ready    bool        // it has served
	Lived    time.Duration
	Strays   int    // processes that it has left
	OOMKills int    // of its processes, by the kernel for want of memory
	Restart  string // the command that starts the next one
	Command  []string
	// Directory is the worker's.
	Directory string
	Handoff   handoff.Kind
	Auto      bool   // that is what auto has come to
	Filtered  bool   // it would have got the sockets by intercept
	Listened  bool   // on a held address, as far as is known
	Served    bool   // an earlier generation of this command has
	Held      string // the held addresses
}

// early is how soon somebody ends who cannot bind an address: one that tries again, as OpenClaw does for 10 s, says so by then.
const early = 15 * time.Second

// killed is the exit code of a shell whose command was killed by SIGKILL.
const killed = 128 + int(unix.SIGKILL)

// OOM reports whether the kernel has killed the main process for want of memory, or what that has started and waited for.
func (e End) OOM() bool { return e.OOMKills > 0 && (e.Signal == unix.SIGKILL || e.Code == killed) }

// Background says that a worker went to the background; "" where it did not. What it left there may have served by then.
func (e End) Background() string {
	if e.Code != 0 || e.Strays == 0 || e.Ready && e.Lived >= early {
		return ""
	}
	return "it went to the background, and what it left there was ended with it: have it stay in the foreground by its line in worker.command " +
		"(nginx: -g 'daemon off;'; others have an option such as --foreground, or one such as --daemon to leave out)"
}

// Advice is a sentence; "" where there is nothing to say.
func (e End) Advice() string {
	switch {
	case e.OOM():
		return "the kernel has killed it for want of memory: it needs less, the machine more, or the unit a higher MemoryMax="
	case e.OOMKills > 0:
		return fmt.Sprintf("the kernel has killed %d of its processes for want of memory", e.OOMKills)
	case e.Background() != "":
		return e.Background()
	case e.Ready || e.Signal != 0:
		return ""
	case e.Code == 0:
		return joined("it ended by itself before it served: worker.command needs a server, which stays", e.below())
	case e.Code == exConfig:
		return "so a program says that its configuration is wrong (EX_CONFIG), and an OpenClaw also that another one has its state: its last words say what; " +
			"run " + e.Restart + " when that is mended"
	case e.Code == 126 || e.Code == 127:
		return "so a shell or env says that a program was not found (127) or cannot be executed (126): name its whole path in worker.command, or in the script that calls it"
	}
	if err := handoff.MissingScript(e.Command, e.Directory); err != nil {
		return fmt.Sprintf("%v: correct worker.command", err)
	}
	away := Away(e.Command, e.Handoff)
	if away != "" && !e.Listened && !e.Filtered {
		return away
	}
	if apart := apart(e.Command); apart != "" && away == "" && e.inherits() && !e.Listened && !e.Served {
		return apart // also with a filter beside: it may not have come to bind
	}
	if e.Filtered {
		return "" // nothing gets lost on the way to who binds
	}
	if e.Handoff != handoff.Preload && e.Lived < early && !e.Listened && !e.Served {
		others := "auto or intercept"
		if e.Auto {
			others = "intercept"
		}
		return fmt.Sprintf("it has listened on nothing; a server that binds %s itself cannot, because the launcher holds that: worker.command needs a program, or an option of this one, "+
			"that takes its sockets from systemd (LISTEN_FDS), or Node.js; or set worker.handoff to %s", e.Held, others)
	}
	return ""
}

// below says of a Node.js how what it starts gets the sockets, which a cluster with SCHED_NONE wants too; "" where that is so already, or
// where it has listened.
func (e End) below() string {
	if e.Handoff != handoff.Preload || e.Filtered || e.Listened {
		return ""
	}
	return "if a child process or a worker thread of it is to listen, which gets EADDRINUSE by preload, set worker.handoff to intercept"
}

// inherits reports whether the sockets were in LISTEN_FDS, and nothing was seen to take them otherwise.
func (e End) inherits() bool { return e.Handoff == handoff.ListenFDs || e.Handoff == handoff.Auto }

// StartsAnother reports whether the command shows that Node.js starts another one to serve, which gets no sockets from it: npm, pm2,
// nodemon, node --watch.
func StartsAnother(command []string) bool {
	return len(command) > 0 && !handoff.Wraps(filepath.Base(command[0])) && strings.HasSuffix(Away(command, handoff.Preload), startsAnother)
}

// MayBind reports whether a program that has listened on nothing, as far as its handoff shows, may be one that binds its address itself
// and would get the sockets by intercept. What becomes whatever it likes is none: a shell and a wrapper get the sockets by every other way.
func MayBind(command []string, kind handoff.Kind) bool {
	switch {
	case len(command) == 0, slices.Contains(closers, filepath.Base(command[0])): // which need the privileges that are lost by it
		return false
	}
	return kind == handoff.ListenFDs || kind == handoff.Preload // of which a child or a thread may bind
}

// apart says of a program that starts the server as a process of its own, and waits for it, what a server means by it that looks
// for its own pid in LISTEN_PID, as sd_listen_fds(3) does.
func apart(command []string) string {
	const ofAnother = " starts the server as a process of its own, and LISTEN_PID names the first one: "
	switch program := filepath.Base(append(command, "")[0]); {
	case slices.Contains([]string{"runuser", "su"}, program):
		return program + ofAnother + "put setpriv --reuid=USER --regid=GROUP --init-groups in its place, or have the service run as that user (gateway install --system --run-as USER)"
	case slices.Contains([]string{"timeout", "flock", "unbuffer", "tini", "dumb-init", "catatonit"}, program):
		return program + ofAnother + "leave it out of worker.command"
	}
	return ""
}

// emptied is the option of a command line by which what it starts gets a new environment; "" without one.
func emptied(words []string) string {
	for i, word := range words {
		name := filepath.Base(word)
		if !slices.Contains([]string{"su", "runuser", "env"}, name) {
			continue
		}
		for _, option := range words[i+1:] {
			login := name != "env" && slices.Contains([]string{"-l", "--login"}, option)
			if login || option == "-" || name == "env" && slices.Contains([]string{"-i", "--ignore-environment"}, option) {
				return name + " " + option
			}
			if !strings.HasPrefix(option, "-") && name == "env" || option == "-c" {
				break
			}
		}
	}
	return ""
}

// exConfig is EX_CONFIG of sysexits.h.
const exConfig = 78

var (
	// node is a word of a command line, or of a shell's, that is Node.js.
	node = lazy.Regexp(`(?:^|[\s/;&|"'])node(?:js)?(?:-?[0-9.]+)?(?:\s|$)`)
	// starters are programs of Node.js that start another one.
	starters = []string{"npm", "npx", "yarn", "pnpm", "nodemon", "pm2", "pm2-runtime", "forever"}
)

// closers are programs that close all descriptors but the first three.
var closers = []string{"sudo", "doas", "pkexec"}

const startsAnother = " starts another Node.js, which does not get the sockets: have worker.command begin with node and name what is to serve"

// Away says why the sockets do not get to the program that is to serve, where the command shows it.
func Away(command []string, kind handoff.Kind) string {
	if len(command) == 0 || kind == handoff.Intercept { // which nothing gets lost by
		return ""
	}
	program := filepath.Base(command[0])
	words := strings.FieldsFunc(strings.Join(command[1:], " "), func(r rune) bool { return strings.ContainsRune(" \t\n;&|()\"'", r) })
	switch {
	case emptied(append([]string{program}, words...)) != "":
		return emptied(append([]string{program}, words...)) + " gives what it starts a new environment, without LISTEN_FDS and NODE_OPTIONS, so it cannot know of the sockets: leave that option out"
	case slices.Contains(closers, program):
		return program + " passes no sockets on: have the service run as that user (gateway install --system --run-as USER), or put " +
			"setpriv --reuid=USER --regid=GROUP --init-groups in its place"
	case kind == handoff.Auto, kind == handoff.Preload && handoff.Wraps(program):
		for i, word := range words {
			if option, _, _ := strings.Cut(word, "="); i > 0 && strings.HasPrefix(option, "--watch") {
				return option + startsAnother
			}
			if name := filepath.Base(word); slices.Contains(starters, name) {
				return name + startsAnother
			}
			if name := filepath.Base(word); slices.Contains(closers, name) {
				return name + " passes no sockets on: leave it out of worker.command"
			}
		}
		return ""
	}
	if kind == handoff.ListenFDs {
		if node().MatchString(filepath.Base(command[0])) {
			return "Node.js takes no sockets by listen-fds, unless what it runs listens on descriptor 3: set worker.handoff to auto"
		}
		if !node().MatchString(strings.Join(command[1:], " ")) {
			return ""
		}
		return fmt.Sprintf("Node.js behind %s does not get the sockets: set worker.handoff to auto or preload, or have worker.command begin with node", program)
	}
	for i, word := range command {
		name := filepath.Base(word)
		option, _, _ := strings.Cut(word, "=")
		switch {
		case kind != handoff.Preload:
		case i > 0 && slices.Contains([]string{"--watch", "--watch-path", "--test", "--run"}, option):
			return option + startsAnother
		case slices.Contains(starters, name), i > 0 && (name == "npm-cli.js" || name == "npx-cli.js"):
			return name + startsAnother
		case name == "openclaw.mjs":
			return "openclaw.mjs may start another Node.js, which does not get the sockets: name dist/index.js of the same package instead of it in worker.command"
		case slices.ContainsFunc([]string{"openclaw", "clawdbot", "moltbot"}, func(product string) bool { return strings.HasSuffix(word, "/"+product+"/dist/entry.js") }):
			return "entry.js of OpenClaw may start another Node.js, which does not get the sockets: name dist/index.js of the same package instead of it in worker.command, " +
				"or set worker.handoff to intercept"
		case i > 0 && !strings.HasPrefix(word, "-"):
			return "" // what is behind it is for the program itself
		}
	}
	return ""
}
