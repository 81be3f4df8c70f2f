package handoff_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/handoff"
)

// chooseEnv names the program for which the test's own program, started once
// more, chooses a handoff.
const chooseEnv = "TEST_HANDOFF_CHOOSE"

func TestChoose(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(directory, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(name, target string) string {
		path := filepath.Join(directory, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const binary = "\x7fELF\x02\x01\x01\x00"
	real := write("bin/node", binary)
	script := write("bin/openclaw.mjs", "#!/usr/bin/env node\nimport 'node:net';\n")
	for _, test := range []struct {
		name  string
		asked handoff.Kind
		path  string
		want  handoff.Kind
	}{
		{"asked for listen-fds", handoff.ListenFDs, real, handoff.ListenFDs},
		{"asked for preload", handoff.Preload, "/bin/sh", handoff.Preload},
		{"node", handoff.Auto, real, handoff.Preload},
		{"nodejs", handoff.Auto, write("nodejs", binary), handoff.Preload},
		{"node-24", handoff.Auto, write("node-24", binary), handoff.Preload},
		{"node22", handoff.Auto, write("node22", binary), handoff.Preload},
		{"node-24.1.0", handoff.Auto, write("node-24.1.0", binary), handoff.Preload},
		{"node_exporter", handoff.Auto, write("node_exporter", binary), handoff.ListenFDs},
		{"nodemon", handoff.Auto, write("nodemon", binary), handoff.ListenFDs},
		{"symlink to node", handoff.Auto, link("js", real), handoff.Preload},
		{"symlink called node", handoff.Auto, link("node", write("launcher", binary)), handoff.Preload},
		{"script for node", handoff.Auto, script, handoff.Preload},
		{"symlink to a script for node", handoff.Auto, link("openclaw", script), handoff.Preload},
		{"script with a path", handoff.Auto, write("a", "#!/opt/bin/node --no-warnings\n"), handoff.Preload},
		{"script with spaces", handoff.Auto, write("b", "#! \t/usr/bin/env -S node --no-warnings\n"), handoff.Preload},
		{"script of one line without an end", handoff.Auto, write("c", "#!/usr/bin/node"), handoff.Preload},
		{"script for the shell", handoff.Auto, write("d", "#!/bin/sh\nexec node server.js\n"), handoff.Auto},
		{"script for python", handoff.Auto, write("e", "#!/usr/bin/env python3\n# node\n"), handoff.ListenFDs},
		{"long first line", handoff.Auto, write("f", "#!"+strings.Repeat("x", 300)+" node\n"), handoff.ListenFDs},
		{"empty file", handoff.Auto, write("g", ""), handoff.ListenFDs},
		{"python", handoff.Auto, write("python3", binary), handoff.ListenFDs},
		{"script for bash", handoff.Auto, write("h", "#!/usr/bin/env bash\n"), handoff.Auto},
		{"env", handoff.Auto, "/usr/bin/env", handoff.Auto},
		{"shell", handoff.Auto, "/bin/sh", handoff.Auto},
		{"nice", handoff.Auto, "/usr/bin/nice", handoff.Auto},
		{"setpriv", handoff.Auto, "/usr/bin/setpriv", handoff.Auto},
		{"shim of Volta", handoff.Auto, link("volta/openclaw", write("volta/volta-shim", binary)), handoff.Auto},
		{"shim of mise", handoff.Auto, link("volta/server", write("volta/mise", binary)), handoff.Auto},
		{"wrapper of Nix", handoff.Auto, write("wrapped", binary+"# makeCWrapper '/nix/store/x-node/bin/node'"), handoff.Auto},
		{"sudo", handoff.Auto, write("sudo", binary), handoff.ListenFDs},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := handoff.Choose(test.asked, test.path)
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("chose %q, not %q", got, test.want)
			}
		})
	}
}

func TestChooseRefuses(t *testing.T) {
	t.Parallel()
	if _, err := handoff.Choose("proxy", "/bin/sh"); err == nil || !strings.Contains(err.Error(), `"proxy"`) {
		t.Errorf("an unknown kind: %v", err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := handoff.Choose(handoff.Auto, missing); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a program that does not exist: %v", err)
	}
	pipe := filepath.Join(t.TempDir(), "server")
	if err := unix.Mkfifo(pipe, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := handoff.Choose(handoff.Auto, pipe); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a pipe: %v", err)
	}
}

// A program may be executable without being readable. Root can read all, so the
// choice is made by a process of somebody else.
func TestChooseUnreadable(t *testing.T) {
	t.Parallel()
	directory, err := os.MkdirTemp("", "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(directory, "server")
	if err := os.WriteFile(program, []byte("#!/usr/bin/env node\n"), 0o111); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{quick, chooseEnv + "=" + program}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
	}
	output, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if got := handoff.Kind(strings.TrimSpace(string(output))); got != handoff.ListenFDs {
		t.Errorf("chose %q, not %q", got, handoff.ListenFDs)
	}
}

// chooseAsAnybody is the other process of TestChooseUnreadable.
func chooseAsAnybody(path string) (code int) {
	if _, err := os.ReadFile(path); !errors.Is(err, os.ErrPermission) {
		fmt.Printf("%s can be read: %v\n", path, err)
		return 1
	}
	kind, err := handoff.Choose(handoff.Auto, path)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(kind)
	return 0
}

func TestBun(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	program := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := filepath.Join(folder, "runtime")
	if err := os.Symlink(program("bun", "ELF"), link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		argv []string
		want bool
	}{
		{[]string{filepath.Join(folder, "bun"), "server.ts"}, true},
		{[]string{link, "server.ts"}, true},
		{[]string{program("bun-1.3", "ELF")}, true},
		{[]string{program("start", "#!/usr/bin/env bun\n")}, true},
		{[]string{"/usr/bin/env", "A=1", "bun", "server.ts"}, true},
		{[]string{program("bundle", "ELF")}, false},
		{[]string{program("node", "ELF"), "bun"}, false},
		{[]string{filepath.Join(folder, "gone")}, false},
	} {
		if got := handoff.Bun(test.argv[0], test.argv); got != test.want {
			t.Errorf("%q: %v", test.argv, got)
		}
	}
}
