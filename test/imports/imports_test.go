// Package imports holds the rules of who may import whom.
package imports

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// forbidden says which packages must not stand in the dependencies of the
// packages below a folder, and why.
var forbidden = []struct{ folder, imports, why string }{
	{"listener", "openclaw-gateway/worker", "listener knows sockets, not what is run behind them"},
	{"listener", "openclaw-gateway/units", "listener does not know how systemd was told"},
	{"worker", "openclaw-gateway/listener", "a worker gets descriptors, whoever holds them"},
	{"worker", "openclaw-gateway/units", "worker does not know how systemd was told"},
	{"units", "openclaw-gateway/listener", "units writes text"},
	{"units", "openclaw-gateway/worker", "units writes text"},
	{"listener", "openclaw-gateway/cmd", "the program is made of the packages, not the other way round"},
	{"worker", "openclaw-gateway/cmd", "the program is made of the packages, not the other way round"},
	{"units", "openclaw-gateway/cmd", "the program is made of the packages, not the other way round"},
	{"listener", "github.com/spf13/", "configuration and commands end in cmd/gateway"},
	{"worker", "github.com/spf13/", "configuration and commands end in cmd/gateway"},
	{"units", "github.com/spf13/", "configuration and commands end in cmd/gateway"},
}

func TestImports(t *testing.T) {
	for _, folder := range []string{"listener", "worker", "units"} {
		output, err := exec.Command("go", "list", "-deps", "-test", "../../"+folder+"/...").CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, output)
		}
		for line := range strings.Lines(string(output)) {
			dependency := strings.TrimSpace(line)
			for _, rule := range forbidden {
				if rule.folder == folder && strings.HasPrefix(dependency, rule.imports) {
					t.Errorf("%s imports %s: %s", folder, dependency, rule.why)
				}
			}
		}
	}
}

// TestViperHasOneHome keeps the configuration library in its package.
func TestViperHasOneHome(t *testing.T) {
	output, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "../../...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, output)
	}
	found := false
	for line := range strings.Lines(string(output)) {
		fields := strings.Fields(line)
		for _, dependency := range fields[1:] {
			if dependency != "github.com/spf13/viper" {
				continue
			}
			found = true
			if fields[0] != "openclaw-gateway/cmd/gateway/config" {
				t.Errorf("%s imports viper: only cmd/gateway/config reads the configuration", fields[0])
			}
		}
	}
	if !found {
		t.Error("nobody imports viper: the test has lost its subject")
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
