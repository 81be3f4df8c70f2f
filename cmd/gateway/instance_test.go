package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/units/instance"
)

// TestInstances: what is installed with a name lies beside the default instance and shares nothing with it.
func TestInstances(t *testing.T) {
	program, root := installableProgram(t), t.TempDir()
	run := func(arguments ...string) (string, error) {
		t.Helper()
		out, notes, err := executeInstaller(t, program, 1000, append(arguments, "--system", "--root", root)...)
		return out + notes, err
	}
	for _, arguments := range [][]string{{"install", "--run-as", "root"}, {"install", "--run-as", "claw", "--name", "work"}, {"install", "--run-as", "claw", "--name", "lab"}} {
		if output, err := run(arguments...); err != nil {
			t.Fatalf("%q: %v\n%s", arguments, err, output)
		}
	}
	for name, port := range map[instance.Name]string{"": "18789", "work": "18809", "lab": "18829"} {
		config := "/etc/" + name.Directory() + "/config.yaml"
		service, socket := readBelow(t, root, "/etc/systemd/system/"+name.Service()), readBelow(t, root, "/etc/systemd/system/"+name.Socket())
		run := " run " + strings.Join(append(name.Flag(), "--config", config), " ") + "\n"
		for _, line := range []string{
			run, "\nRequires=" + name.Socket() + "\n", "\nRuntimeDirectory=" + name.Directory() + "\n", "\nStateDirectory=" + name.Directory() + "\n",
			"\nCacheDirectory=" + name.Directory() + "\n", "\nWantedBy=" + name.Socket() + "\n",
		} {
			if !strings.Contains(service, line) {
				t.Errorf("%s lacks %q:\n%s", name.Service(), line, service)
			}
		}
		if !strings.Contains(socket, "\nListenStream=127.0.0.1:"+port+"\n") || !strings.Contains(readBelow(t, root, config), "127.0.0.1:"+port) {
			t.Errorf("%s does not have port %s:\n%s", name, port, socket)
		}
	}
	if output, err := run("install", "--name", "work"); err != nil || strings.Count(output, "unchanged ") != 2 {
		t.Errorf("a second time: %v\n%s", err, output)
	}

	// The port of another one.
	taken := filepath.Join(root, "etc/openclaw-gateway-work/config.yaml")
	for _, listen := range []string{`["127.0.0.1:18789"]`, `["0.0.0.0:18829"]`, `["*:18789"]`} {
		if err := os.WriteFile(taken, []byte("listen: "+listen+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		first := instance.Default.Socket()
		if strings.Contains(listen, "18829") {
			first = instance.Name("lab").Socket()
		}
		if _, err := run("install", "--name", "work"); err == nil || !strings.Contains(err.Error(), first+" of the system scope") {
			t.Errorf("with listen %s: %v, want %s named", listen, err, first)
		}
	}
	// Another configuration, without a name.
	other := filepath.Join(root, "etc/other.yaml")
	if err := os.WriteFile(other, []byte("listen: [\"127.0.0.1:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := readBelow(t, root, "/etc/systemd/system/openclaw-gateway.service")
	if _, err := run("install", "--config", "/etc/other.yaml"); err == nil || !strings.Contains(err.Error(), "openclaw-gateway.service of the system scope") ||
		!strings.Contains(err.Error(), "--name NAME --config /etc/other.yaml") {
		t.Errorf("another configuration: %v", err)
	}
	if readBelow(t, root, "/etc/systemd/system/openclaw-gateway.service") != before {
		t.Error("the refused installation has written the service")
	}

	if output, err := run("uninstall", "--name", "lab"); err != nil || strings.Count(output, "openclaw-gateway-lab.") != 2 {
		t.Errorf("uninstall: %v\n%s", err, output)
	}
	for _, name := range []string{"", "-work"} {
		if _, err := os.Stat(filepath.Join(root, "etc/systemd/system/openclaw-gateway"+name+".socket")); err != nil {
			t.Error(err)
		}
	}
}

// TestNoName: what is no name is a mistake of the command line, with the rule.
func TestNoName(t *testing.T) {
	for _, arguments := range [][]string{
		{"status"},
		{"status", "--history"},
		{"doctor"},
		{"metrics"},
		{"restart"},
		{"reload"},
		{"start"},
		{"stop"},
		{"logs"},
		{"reclaim"},
		{"config", "check"},
		{"config", "show"},
		{"run"},
		{"install", "--user"},
		{"uninstall", "--user"},
	} {
		for _, name := range []string{"--name=", "--name=Work", "--name=a/b", "--name=" + strings.Repeat("x", 33)} {
			root := newRootCommand(false)
			root.SetArgs(append(arguments, name))
			var output strings.Builder
			root.SetOut(&output)
			root.SetErr(&output)
			if status := execute(root); status != 64 || !strings.Contains(strings.Join(strings.Fields(output.String()), ""), instance.Rule) {
				t.Errorf("gateway %q %s: exit status %d\n%s", arguments, name, status, output.String())
			}
		}
	}
}
