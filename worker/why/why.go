package why

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
)

// End is a generation that has ended by itself.
type End struct {
	Code     int         // exit code; -1 when a signal ended it
	Signal   unix.Signal // 0 when it exited
	Ready    bool        // it has served
	Lived    time.Duration
	Strays   int // processes that it has left
	OOMKills int // of its processes, by the kernel for want of memory
	Command  []string
	// Directory is the worker's.
	Directory string
	Handoff   handoff.Kind
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
		return "it ended by itself before it served: worker.command needs a server, which stays"
	case e.Code == exConfig:
		return "so a program says that its configuration is wrong (EX_CONFIG), and an OpenClaw also that another one has its state: its last words say what; " +
			"run gateway restart when that is mended"
	case e.Code == 126 || e.Code == 127:
		return "so a shell or env says that a program was not found (127) or cannot be executed (126): name its whole path in worker.command, or in the script that calls it"
	}
	if err := handoff.MissingScript(e.Command, e.Directory); err != nil {
		return fmt.Sprintf("%v: correct worker.command", err)
	}
	if away := Away(e.Command, e.Handoff); away != "" && !e.Listened {
		return away
	}
	if e.Handoff != handoff.Preload && e.Lived < early && !e.Listened && !e.Served {
		return fmt.Sprintf("perhaps it binds %s itself and cannot, because the launcher holds that: worker.command needs a program, or an option of this one, "+
			"that takes its sockets from systemd (LISTEN_FDS), or Node.js", e.Held)
	}
	return ""
}

// exConfig is EX_CONFIG of sysexits.h.
const exConfig = 78

var (
	// node is a word of a command line, or of a shell's, that is Node.js.
	node = regexp.MustCompile(`(?:^|[\s/;&|"'])node(?:js)?(?:-?[0-9.]+)?(?:\s|$)`)
	// starters are programs of Node.js that start another one.
	starters = []string{"npm", "npx", "yarn", "pnpm", "nodemon", "pm2", "pm2-runtime", "forever"}
)

// closers are programs that close all descriptors but the first three.
var closers = []string{"sudo", "doas", "pkexec"}

const startsAnother = " starts another Node.js, which does not get the sockets: have worker.command begin with node and name what is to serve"

// Away says why the sockets do not get to the program that is to serve, where the command shows it.
func Away(command []string, kind handoff.Kind) string {
	if len(command) == 0 {
		return ""
	}
	program := filepath.Base(command[0])
	words := strings.FieldsFunc(strings.Join(command[1:], " "), func(r rune) bool { return strings.ContainsRune(" \t\n;&|()\"'", r) })
	switch {
	case slices.Contains(closers, program):
		return program + " passes no sockets on: have the service run as that user (gateway install --system --run-as USER), or put " +
			"setpriv --reuid=USER --regid=GROUP --init-groups in its place"
	case kind == handoff.Auto, kind == handoff.Preload && handoff.Wraps(program):
		for i, word := range words {
			if name := filepath.Base(word); slices.Contains(starters, name) || word == "--watch" && i > 0 {
				return name + startsAnother
			}
			if name := filepath.Base(word); slices.Contains(closers, name) {
				return name + " passes no sockets on: leave it out of worker.command"
			}
		}
		return ""
	}
	if kind == handoff.ListenFDs {
		if node.MatchString(filepath.Base(command[0])) {
			return "Node.js takes no sockets by listen-fds, unless what it runs listens on descriptor 3: set worker.handoff to auto"
		}
		if !node.MatchString(strings.Join(command[1:], " ")) {
			return ""
		}
		return fmt.Sprintf("Node.js behind %s does not get the sockets: set worker.handoff to auto or preload, or have worker.command begin with node", program)
	}
	for i, word := range command {
		name := filepath.Base(word)
		switch {
		case kind != handoff.Preload:
		case slices.Contains(starters, name), i > 0 && (name == "npm-cli.js" || name == "npx-cli.js"), i > 0 && word == "--watch":
			return name + startsAnother
		case name == "openclaw.mjs":
			return "openclaw.mjs may start another Node.js, which does not get the sockets: name dist/index.js of the same package instead of it in worker.command"
		case i > 0 && !strings.HasPrefix(word, "-"):
			return "" // what is behind it is for the program itself
		}
	}
	return ""
}
