// Package imports holds the rules of who may import whom.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "openclaw-gateway"

// wall is round the package in a folder.
type wall struct {
	folder string
	may    []string
	why    string
}

// leaves are what everybody may import: the form in which addresses go from one part to another, what is made when it is
// needed, waiting, the options of a socket, and files for the program that takes this one's place.
var leaves = []string{"netaddr", "lazy", "clock", "sockopts", "passed"}

// walls says which packages of ours each package may import, its tests aside. What is below a folder may be imported with
// it where that is named with "/...".
var walls = []wall{
	{"cmd/gateway", []string{"cmd/gateway/...", "units/...", "worker/proctree"}, "it is flags, help and exit status: what a command does is done below it"},
	{"cmd/gateway/api", []string{"units/instance"}, "what goes over the control socket is a leaf, so that both of its ends can know it"},
	{"cmd/gateway/say", nil, "how something is written does not depend on what it is about"},
	{"cmd/gateway/logging", []string{"cmd/gateway/say", "cmd/gateway/config", "worker/proctree"}, "a line of the log is written the same whoever logs"},
	{"cmd/gateway/read", nil, "whatever is read, others own it in the same way"},
	{"cmd/gateway/inotify", nil, "an event is one, whoever waits for it"},
	{"cmd/gateway/peer", nil, "what the kernel says of a connection needs nothing of ours"},
	{"cmd/gateway/unfinished", nil, "what is left of a write does not depend on what was written"},
	{"cmd/gateway/state", []string{"cmd/gateway/api", "cmd/gateway/read", "cmd/gateway/unfinished", "units/instance", "worker/proctree"}, "what is kept is kept whatever it is"},
	{"cmd/gateway/kernel", nil, "what the kernel can do needs nothing of ours"},
	{"cmd/gateway/config", []string{"units/instance", ".", "cmd/gateway/say", "cmd/gateway/read"}, "a configuration is read and judged without a machine to run it on"},
	{"cmd/gateway/config/watch", []string{"cmd/gateway/inotify", "cmd/gateway/read"}, "a file is watched whatever is in it"},
	{"cmd/gateway/asuser", nil, "a child becomes a user before it has done anything else"},
	{"cmd/gateway/systemd", []string{"cmd/gateway/asuser", "cmd/gateway/peer", "cmd/gateway/read", "cmd/gateway/say", "units/..."}, "what a service manager says is the same for whoever asks"},
	{
		"cmd/gateway/launcher",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/config/...", "cmd/gateway/systemd", "cmd/gateway/logging",
			"cmd/gateway/dropins", "cmd/gateway/launcher/...", "cmd/gateway/state", "units/...", "listener/...", "worker/...",
		},
		"the daemon answers about itself from memory, and starts no tool",
	},
	{
		"cmd/gateway/launcher/alarm",
		[]string{"cmd/gateway/api", "cmd/gateway/config", "cmd/gateway/read", "cmd/gateway/say", "cmd/gateway/state", "worker"},
		"it rings for what a worker is, and nobody waits for it",
	},
	{
		"cmd/gateway/launcher/compilecache",
		[]string{"cmd/gateway/api", "cmd/gateway/launcher/runtimedir", "units/instance"},
		"what is compiled is kept whoever compiles it",
	},
	{"cmd/gateway/launcher/announce", []string{"cmd/gateway/api", "cmd/gateway/say", "worker", "worker/ends"}, "what systemd is told follows from what the worker does"},
	{
		"cmd/gateway/launcher/control",
		[]string{"cmd/gateway/api", "cmd/gateway/inotify", "cmd/gateway/launcher/runtimedir", "cmd/gateway/peer", "cmd/gateway/say", "worker/proctree"},
		"who asks is let in or not, whatever it is that answers",
	},
	{"cmd/gateway/launcher/upgrade", []string{"cmd/gateway/api", "cmd/gateway/peer", "cmd/gateway/read", "cmd/gateway/state"}, "a program is found and asked, whatever it is told"},
	{
		"cmd/gateway/launcher/history",
		[]string{"cmd/gateway/api", "cmd/gateway/read", "cmd/gateway/say", "cmd/gateway/state", "worker", "worker/ends", "worker/signs"},
		"what a generation was is kept whoever asks",
	},
	{"cmd/gateway/launcher/runtimedir", []string{"cmd/gateway/api", "units/instance"}, "where something lies is the same whatever it is"},
	{"cmd/gateway/openclaw", []string{"cmd/gateway/read", "worker/proctree"}, "how an OpenClaw gateway is told from outside does not depend on who asks"},
	{"cmd/gateway/openclaw/commandline", []string{"cmd/gateway/openclaw", "cmd/gateway/read"}, "a command line is text, wherever it stands"},
	{
		"cmd/gateway/openclaw/dotenv",
		[]string{"cmd/gateway/asuser", "cmd/gateway/config", "cmd/gateway/openclaw", "cmd/gateway/openclaw/commandline", "cmd/gateway/read", "cmd/gateway/systemd", "cmd/gateway/unfinished"},
		"what is written into OpenClaw's file is the same for whoever has it written",
	},
	{
		"cmd/gateway/dropins",
		[]string{"cmd/gateway/openclaw/commandline", "cmd/gateway/read", "cmd/gateway/say", "cmd/gateway/systemd", "units/..."},
		"what systemd has made of our units is the same for whoever asks",
	},
	{
		"cmd/gateway/client",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/dropins", "cmd/gateway/openclaw/commandline", "cmd/gateway/systemd", "cmd/gateway/peer", "units/...", "worker/proctree"},
		"a tool speaks to the daemon, and never calls it",
	},
	{
		"cmd/gateway/lastwords",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "units/..."},
		"whoever asks looks into the journal, with that one's rights",
	},
	{
		"cmd/gateway/holders",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/dropins", "cmd/gateway/openclaw", "cmd/gateway/systemd", "units/...", "listener/sockdiag", "worker/proctree"},
		"who has the port is found out by looking, not by asking the daemon; units has the names of ours",
	},
	{
		"cmd/gateway/status",
		[]string{
			"cmd/gateway/adopt/journal", "cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/dropins", "cmd/gateway/holders", "cmd/gateway/lastwords", "cmd/gateway/openclaw", "cmd/gateway/openclaw/commandline", "cmd/gateway/systemd", "cmd/gateway/config",
			"cmd/gateway/read", "units/...", "listener/sockdiag", "worker/proctree",
		},
		"a tool asks the daemon and the kernel, and never calls the daemon",
	},
	{
		"cmd/gateway/check",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/config", "cmd/gateway/doctor", "cmd/gateway/holders",
			"cmd/gateway/read", "cmd/gateway/status", "units/...",
		},
		"a tool asks the daemon and the kernel, and never calls the daemon",
	},
	{
		"cmd/gateway/verb",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/holders", "cmd/gateway/lastwords", "cmd/gateway/openclaw/commandline",
			"cmd/gateway/status", "units/...", "worker/proctree",
		},
		"a tool asks the daemon and systemd, and never calls the daemon",
	},
	{"cmd/gateway/metrics", []string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/read"}, "it writes what a status has, whoever has asked"},
	{
		"cmd/gateway/doctor",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/doctor/gather", "cmd/gateway/holders", "cmd/gateway/kernel", "cmd/gateway/openclaw/...", "cmd/gateway/systemd",
			"cmd/gateway/config", "cmd/gateway/dropins", "units/...", "worker/handoff", "worker/why",
		},
		"it judges what was gathered, and looks at nothing itself",
	},
	{
		"cmd/gateway/doctor/gather",
		[]string{
			"cmd/gateway/adopt/journal", "cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/holders", "cmd/gateway/lastwords", "cmd/gateway/kernel", "cmd/gateway/openclaw/...", "cmd/gateway/systemd",
			"cmd/gateway/asuser", "cmd/gateway/config", "cmd/gateway/dropins", "cmd/gateway/read", "units/...", "listener/sockdiag", "worker/proctree", "worker/handoff",
		},
		"a tool asks the daemon and the kernel, and never calls the daemon",
	},
	{
		"cmd/gateway/reclaim",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/holders", "cmd/gateway/systemd", "units/...",
			"listener/sockdiag", "worker/proctree",
		},
		"what it ends is proven by the kernel, not by the daemon's word",
	},
	{
		"cmd/gateway/install",
		[]string{"cmd/gateway/client", "cmd/gateway/openclaw/...", "cmd/gateway/say", "cmd/gateway/config", "cmd/gateway/dropins", "cmd/gateway/read", "cmd/gateway/status", "cmd/gateway/systemd", "units/...", "listener/sockdiag"},
		"it writes files for a daemon that need not run",
	},
	{
		"cmd/gateway/adopt",
		[]string{
			"cmd/gateway/adopt/lines", "cmd/gateway/adopt/where", "cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/asuser", "cmd/gateway/config", "cmd/gateway/dropins", "cmd/gateway/holders",
			"cmd/gateway/openclaw/...", "cmd/gateway/read", "cmd/gateway/systemd", "units/...", "listener/sockdiag", "worker/handoff", "worker/proctree",
		},
		"it is install for a machine that has an OpenClaw, and asks the daemon nothing",
	},
	{"cmd/gateway/adopt/lines", []string{"cmd/gateway/dropins", "cmd/gateway/openclaw", "cmd/gateway/openclaw/commandline", "cmd/gateway/say"}, "what a line of a unit becomes does not depend on who has the unit"},
	{"cmd/gateway/adopt/where", []string{"cmd/gateway/config", "cmd/gateway/openclaw", "cmd/gateway/openclaw/commandline", "cmd/gateway/read"}, "where an OpenClaw listens does not depend on what becomes of it"},
	{
		"cmd/gateway/adopt/steps",
		[]string{
			"cmd/gateway/adopt", "cmd/gateway/adopt/journal", "cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/config", "cmd/gateway/install",
			"cmd/gateway/lastwords", "cmd/gateway/openclaw/dotenv", "cmd/gateway/reclaim", "cmd/gateway/state", "cmd/gateway/systemd", "netaddr", "units", "units/instance", "listener/sockdiag", "worker/proctree",
		},
		"it carries out what was planned and decides nothing; what it started says by its launcher how it is",
	},
	{"cmd/gateway/adopt/journal", []string{"cmd/gateway/read"}, "what is kept is put back whatever was adopted"},
	{"cmd/gateway/hello", nil, "a worker knows no more of the launcher than any other"},
	{"listener", []string{"listener/sockdiag"}, "it knows sockets, not what is run behind them nor how systemd was told"},
	{"listener/frontdesk", []string{"listener"}, "it accepts on sockets, whoever failed to"},
	{"listener/sockdiag", nil, "the kernel's table of sockets needs nothing of ours"},
	{"worker", []string{"worker/..."}, "a worker gets descriptors, whoever holds them and however systemd was told"},
	{
		"worker/generation",
		[]string{"worker/ends", "worker/handoff/...", "worker/leader", "worker/nodejs", "worker/notify", "worker/prewarm", "worker/probe", "worker/proctree", "worker/signs", "worker/spawn", "worker/tree", "worker/why"},
		"a generation lives one life, whatever came before it and comes after",
	},
	{"worker/cgroup", []string{"worker/proctree"}, "a control group is one, whatever runs in it"},
	{"worker/handoff", []string{"worker/handoff/intercept", "worker/handoff/shim", "worker/nodejs"}, "sockets are handed to a program, whoever supervises it"},
	{"worker/handoff/intercept", nil, "a call is answered by what it asks for, whoever makes it"},
	{"worker/handoff/shim", nil, "it is executed before everything else, and a client waits for it"},
	{"worker/leader", nil, "a process is followed whatever it serves"},
	{"worker/nodejs", nil, "a Node.js is one, whatever it is started for"},
	{"worker/notify", nil, "what a worker says is heard whatever comes of it"},
	{"worker/why", []string{"worker/handoff"}, "an end means the same whoever has seen it"},
	{"worker/prewarm", []string{"worker/nodejs"}, "modules are loaded ahead, whoever hands the program its sockets"},
	{"worker/probe", nil, "a request is made and accounted for, whoever wants to know"},
	{"worker/ends", []string{"worker/proctree"}, "an end is told in the same words to all"},
	{"worker/signs", []string{"worker/probe"}, "whether a worker hangs is seen, whatever follows"},
	{"worker/spawn", []string{"worker/handoff", "worker/tree"}, "a process is started, whatever it is to do"},
	{"worker/proctree", nil, "a process is one, whoever has started it"},
	{"worker/tree", []string{"worker/cgroup", "worker/proctree"}, "what belongs together ends together, whatever it served"},
	{"units", []string{"units/instance"}, "units writes text"},
	{"units/instance", nil, "what an instance is called is the same for all"},
	{"netaddr", nil, "everybody may import it"},
	{"test/sockets", nil, "every package can be tested with it"},
	{"test/cgroups", nil, "every package can be tested with it"},
	{"test/wait", nil, "every package can be tested with it"},
	{"test/fixtures", nil, "every package can be tested with it"},
	{"test", []string{"test/..."}, "the product is tested from outside"},
	{"lazy", nil, "every package can be lazy"},
	{"clock", nil, "every package can wait"},
	{"passed", nil, "a file is passed on, whoever has it"},
	{"sockopts", nil, "an option of a socket is the same to who holds it and to who hands it over"},
	{".", nil, "it is one file, embedded where it lies"},
}

// strangers must not even meet in each other's tests, nor through others.
var strangers = map[string][]string{
	"listener": {"worker", "units", "cmd", "github.com/spf13/"},
	"worker":   {"listener", "units", "cmd", "github.com/spf13/"},
	"units":    {"listener", "worker", "cmd", "github.com/spf13/"},
}

// homes are libraries that one package knows, and why.
var homes = []struct{ library, home, why string }{
	{"github.com/spf13/viper", "cmd/gateway/config", "only it reads the configuration"},
	{"github.com/spf13/cobra", "cmd/gateway", "only commands know of flags and help"},
}

// listed is what go list tells of a package.
type listed struct {
	ImportPath, Dir, Export string
	Imports, GoFiles        []string
}

func list(t *testing.T, arguments ...string) []listed {
	t.Helper()
	output, err := exec.Command("go", append([]string{"list", "-json=ImportPath,Dir,Export,Imports,GoFiles"}, arguments...)...).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []listed
	for decoder := json.NewDecoder(bytes.NewReader(output)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
}

// folder is where a package of ours lies below the module; ours is false for another's.
func folder(path string) (folder string, ours bool) {
	if path == module {
		return ".", true
	}
	return strings.CutPrefix(path, module+"/")
}

// within reports whether a folder is one of the patterns, which name a folder or, with "/...", also what is below it.
func within(folder string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		above, all := strings.CutSuffix(pattern, "/...")
		return folder == above || all && strings.HasPrefix(folder, above+"/")
	})
}

func TestWalls(t *testing.T) {
	unused := map[string]bool{} // "FOLDER may import PATTERN": a wall only ever got lower, did nobody look
	for _, w := range walls {
		for _, pattern := range w.may {
			unused[w.folder+" may import "+pattern] = true
		}
	}
	for _, p := range list(t, "../../...") {
		here, _ := folder(p.ImportPath)
		i := slices.IndexFunc(walls, func(w wall) bool {
			return w.folder == here || w.folder == "test" && strings.HasPrefix(here, "test/")
		})
		if i < 0 {
			t.Errorf("%s has no wall: say what it may import, and why", here)
			continue
		}
		for _, path := range p.Imports {
			there, ours := folder(path)
			if ours && !slices.Contains(leaves, there) && !within(there, walls[i].may) {
				t.Errorf("%s imports %s: %s", here, there, walls[i].why)
			}
			for _, pattern := range walls[i].may {
				if ours && within(there, []string{pattern}) {
					delete(unused, walls[i].folder+" may import "+pattern)
				}
			}
		}
	}
	for allowed := range unused {
		t.Errorf("%s and does not: take it out", allowed)
	}
}

func TestStrangers(t *testing.T) {
	for here, never := range strangers {
		output, err := exec.Command("go", "list", "-deps", "-test", "../../"+here+"/...").CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, output)
		}
		for line := range strings.Lines(string(output)) {
			dependency := strings.TrimPrefix(strings.TrimSpace(line), module+"/")
			for _, stranger := range never {
				if dependency == stranger || strings.HasPrefix(dependency, strings.TrimSuffix(stranger, "/")+"/") {
					t.Errorf("%s imports %s: the parts know nothing of each other, the program is made of them", here, dependency)
				}
			}
		}
	}
}

// TestHomes keeps each of these libraries in one package.
func TestHomes(t *testing.T) {
	packages := list(t, "../../...")
	for _, h := range homes {
		found := false
		for _, p := range packages {
			if !slices.Contains(p.Imports, h.library) {
				continue
			}
			here, _ := folder(p.ImportPath)
			found = found || here == h.home
			if here != h.home {
				t.Errorf("%s imports %s: that is for %s, because %s", here, h.library, h.home, h.why)
			}
		}
		if !found {
			t.Errorf("%s does not import %s: the test has lost its subject", h.home, h.library)
		}
	}
}

// TestLinkerLeavesOutMethods: a call of a method by a name that only a running program knows, as text/template makes
// them, has the linker keep every exported method of every type. It marks what makes such a call.
func TestLinkerLeavesOutMethods(t *testing.T) {
	build := exec.Command("go", "build", "-o", filepath.Join(t.TempDir(), "gateway"), "-ldflags=-dumpdep", "../../cmd/gateway")
	output, err := build.CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	found := false
	for line := range bytes.Lines(output) {
		found = found || bytes.HasPrefix(line, []byte("main.main ->"))
		if bytes.Contains(line, []byte("<ReflectMethod>")) {
			t.Errorf("the program becomes much larger: %s", line)
		}
	}
	if !found {
		t.Error("the linker does not say what depends on what any more: the test has lost its subject")
	}
}

// TestBegins: what a package makes before main is called, the launcher keeps for as long as it runs. Regular expressions were
// 650 KiB of it, and are package lazy's now. What is told is the runtime's GODEBUG=inittrace=1.
func TestBegins(t *testing.T) {
	const most, mostOfAll = 16 << 10, 256 << 10 // bytes, of a package of ours and of all packages
	program := filepath.Join(t.TempDir(), "gateway")
	if output, err := exec.Command("go", "build", "-o", program, "../../cmd/gateway").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	run := exec.Command(program, "version")
	run.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	output, err := run.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	ours, all := 0, 0
	for _, line := range regexp.MustCompile(`(?m)^init (\S+) .* (\d+) bytes, \d+ allocs$`).FindAllSubmatch(output, -1) {
		bytes, err := strconv.Atoi(string(line[2]))
		if err != nil {
			t.Fatal(err)
		}
		all += bytes
		if _, is := folder(string(line[1])); is {
			ours++
			if bytes > most {
				t.Errorf("%s makes %d bytes before main is called: more than %d", line[1], bytes, most)
			}
		}
	}
	if ours == 0 {
		t.Errorf("the runtime does not tell what packages make any more, the test has lost its subject:\n%s", output)
	}
	if all > mostOfAll {
		t.Errorf("all packages make %d bytes before main is called, more than %d:\n%s", all, mostOfAll, output)
	}
}

// sizes are how many lines a package of ours may have without its tests, and why.
var sizes = []struct {
	most    int
	of, why string // of "": every one
}{
	{3000, "", "a package is read in one go by whoever changes it: one that has grown beyond that is two, and what is in the way of that is found out while it is small"},
	{1299, "cmd/gateway", "it is flags, help and exit status: what a command does can only be tested, and used by another, below it"},
}

// TestSizes keeps packages small. Way out: a commit that only moves what belongs together into a package of its own, never fewer
// and longer lines.
func TestSizes(t *testing.T) {
	counted := 0
	for _, p := range list(t, "../../...") {
		here, _ := folder(p.ImportPath)
		lines := 0
		for _, name := range p.GoFiles {
			content, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(content, []byte("\n"))
		}
		for _, size := range sizes {
			if size.of != "" && size.of != here {
				continue
			}
			counted++
			if lines > size.most {
				t.Errorf("%s has %d lines without its tests, more than %d: %s", here, lines, size.most, size.why)
			}
		}
	}
	if counted <= len(sizes) {
		t.Error("no package is counted: the test has lost its subject")
	}
}
