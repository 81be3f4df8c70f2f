// Package imports holds the rules of who may import whom.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
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

// walls says which packages of ours each package may import, its tests aside. What is below a folder may be imported with
// it where that is named with "/...".
var walls = []wall{
	{"cmd/gateway", []string{"cmd/gateway/...", "units", "listener/sockdiag", "worker/proctree"}, "it is flags, help and exit status: what a command does is done below it"},
	{"cmd/gateway/api", nil, "what goes over the control socket is a leaf, so that both of its ends can know it"},
	{"cmd/gateway/say", nil, "how something is written does not depend on what it is about"},
	{"cmd/gateway/logging", []string{"cmd/gateway/say", "cmd/gateway/config"}, "a line of the log is written the same whoever logs"},
	{"cmd/gateway/read", nil, "whatever is read, others own it in the same way"},
	{"cmd/gateway/peer", nil, "what the kernel says of a connection needs nothing of ours"},
	{"cmd/gateway/state", []string{"cmd/gateway/api", "worker/proctree"}, "what is kept is kept whatever it is"},
	{"cmd/gateway/kernel", nil, "what the kernel can do needs nothing of ours"},
	{"cmd/gateway/config", []string{".", "cmd/gateway/say", "cmd/gateway/read"}, "a configuration is read and judged without a machine to run it on"},
	{"cmd/gateway/config/watch", []string{"cmd/gateway/read"}, "a file is watched whatever is in it"},
	{"cmd/gateway/asuser", nil, "a child becomes a user before it has done anything else"},
	{"cmd/gateway/systemd", []string{"cmd/gateway/asuser", "cmd/gateway/peer", "cmd/gateway/read", "cmd/gateway/say", "units"}, "what a service manager says is the same for whoever asks"},
	{
		"cmd/gateway/launcher",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/config/...", "cmd/gateway/systemd", "cmd/gateway/logging",
			"cmd/gateway/dropins", "cmd/gateway/peer", "cmd/gateway/read", "cmd/gateway/state", "units", "listener/...", "worker/...",
		},
		"the daemon answers about itself from memory, and starts no tool",
	},
	{"cmd/gateway/openclaw", []string{"cmd/gateway/read", "worker/proctree"}, "how an OpenClaw gateway is told from outside does not depend on who asks"},
	{
		"cmd/gateway/dropins",
		[]string{"cmd/gateway/openclaw", "cmd/gateway/read", "cmd/gateway/say", "cmd/gateway/systemd", "units"},
		"what systemd has made of our units is the same for whoever asks",
	},
	{
		"cmd/gateway/client",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/dropins", "cmd/gateway/systemd", "cmd/gateway/peer", "units"},
		"a tool speaks to the daemon, and never calls it",
	},
	{
		"cmd/gateway/lastwords",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "units"},
		"whoever asks looks into the journal, with that one's rights",
	},
	{
		"cmd/gateway/holders",
		[]string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/dropins", "cmd/gateway/openclaw", "cmd/gateway/systemd", "units", "listener/sockdiag", "worker/proctree"},
		"who has the port is found out by looking, not by asking the daemon; units has the names of ours",
	},
	{
		"cmd/gateway/status",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/dropins", "cmd/gateway/holders", "cmd/gateway/lastwords", "cmd/gateway/openclaw", "cmd/gateway/systemd", "cmd/gateway/config",
			"units", "listener/sockdiag", "worker/proctree",
		},
		"a tool asks the daemon and the kernel, and never calls the daemon",
	},
	{"cmd/gateway/metrics", []string{"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/read"}, "it writes what a status has, whoever has asked"},
	{
		"cmd/gateway/doctor",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/holders", "cmd/gateway/lastwords", "cmd/gateway/kernel", "cmd/gateway/openclaw", "cmd/gateway/systemd",
			"cmd/gateway/asuser", "cmd/gateway/config", "cmd/gateway/dropins", "cmd/gateway/read", "units", "listener/sockdiag", "worker/proctree", "worker/handoff", "worker/why",
		},
		"a tool asks the daemon and the kernel, and never calls the daemon",
	},
	{
		"cmd/gateway/reclaim",
		[]string{
			"cmd/gateway/api", "cmd/gateway/say", "cmd/gateway/client", "cmd/gateway/holders", "cmd/gateway/systemd", "units",
			"listener/sockdiag", "worker/proctree",
		},
		"what it ends is proven by the kernel, not by the daemon's word",
	},
	{
		"cmd/gateway/install",
		[]string{"cmd/gateway/say", "cmd/gateway/config", "cmd/gateway/dropins", "cmd/gateway/read", "cmd/gateway/systemd", "units"},
		"it writes files for a daemon that need not run",
	},
	{"cmd/gateway/hello", nil, "a worker knows no more of the launcher than any other"},
	{"listener", []string{"listener/sockdiag"}, "it knows sockets, not what is run behind them nor how systemd was told"},
	{"listener/frontdesk", []string{"listener"}, "it accepts on sockets, whoever failed to"},
	{"listener/sockdiag", nil, "the kernel's table of sockets needs nothing of ours"},
	{"worker", []string{"worker/..."}, "a worker gets descriptors, whoever holds them and however systemd was told"},
	{"worker/cgroup", []string{"worker/proctree"}, "a control group is one, whatever runs in it"},
	{"worker/handoff", []string{"worker/handoff/shim"}, "sockets are handed to a program, whoever supervises it"},
	{"worker/handoff/shim", nil, "it is executed before everything else, and a client waits for it"},
	{"worker/leader", nil, "a process is followed whatever it serves"},
	{"worker/notify", nil, "what a worker says is heard whatever comes of it"},
	{"worker/why", []string{"worker/handoff"}, "an end means the same whoever has seen it"},
	{"worker/probe", nil, "a request is made and accounted for, whoever wants to know"},
	{"worker/proctree", nil, "a process is one, whoever has started it"},
	{"worker/tree", []string{"worker/cgroup", "worker/proctree"}, "what belongs together ends together, whatever it served"},
	{"units", nil, "units writes text"},
	{"test/sockets", nil, "every package can be tested with it"},
	{"test/cgroups", nil, "every package can be tested with it"},
	{"test/wait", nil, "every package can be tested with it"},
	{"test/fixtures", nil, "every package can be tested with it"},
	{"test", []string{"test/...", "units"}, "the product is tested from outside"},
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
			if there, ours := folder(path); ours && !within(there, walls[i].may) {
				t.Errorf("%s imports %s: %s", here, there, walls[i].why)
			}
		}
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
