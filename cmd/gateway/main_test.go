package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"openclaw-gateway/cmd/gateway/say"
)

// TestCommandLine: each mistake gets a sentence with the way out, results go to
// standard output and everything else to standard error.
func TestCommandLine(t *testing.T) {
	// Neither the user's configuration nor a launcher of theirs counts. One of the system would, for a command without a scope.
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	good, bad := filepath.Join(t.TempDir(), "good.yaml"), filepath.Join(t.TempDir(), "bad.yaml")
	for path, content := range map[string]string{
		good: "worker:\n  environment: [TOKEN=hush]\n  command: [sh, --token=hush]\nready: {path: 'http://u:hush@127.0.0.1/x?k=hush'}\n", bad: "worker:\n  comand: [x]\nready: {timeout: 5, path: 'ws://u:hush@host'}\n",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	apache := filepath.Join(t.TempDir(), "apache2")
	abrupt := apache + ".yaml"
	if err := errors.Join(os.WriteFile(apache, []byte("#!/bin/sh\n"), 0o755), os.WriteFile(abrupt, []byte("worker: {command: ["+apache+"]}\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		arguments []string
		status    int
		out, err  []string // words
	}{
		{"nothing", nil, 0, []string{"Every day:", "restart"}, nil},
		{"unknown command", []string{"statsu"}, 64, nil, []string{`unknown command "statsu"`, "did you mean status", "gateway --help"}},
		{"unknown option", []string{"status", "--nope"}, 64, nil, []string{"--nope", "gateway status --help"}},
		{"both scopes", []string{"restart", "--system", "--user"}, 64, nil, []string{"system", "user"}},
		{"unknown command below", []string{"config", "chek"}, 64, nil, []string{`unknown command "chek"`, "did you mean check", "gateway config --help"}},
		{"commands below", []string{"config"}, 0, []string{"Commands:", "check"}, nil},
		{"too much", []string{"status", "x"}, 64, nil, []string{`"x"`}},
		{"both scopes of the logs", []string{"logs", "--system", "-n", "5", "--user"}, 64, nil, []string{"--system or --user"}},
		{"version option", []string{"--version"}, 0, []string{"gateway ", "linux/"}, nil},
		{"version", []string{"version"}, 0, []string{"gateway ", "linux/"}, nil},
		{"valid", []string{"config", "check", "--user", good}, 0, []string{good + ": valid"}, []string{"not compared with a running launcher: there is none"}},
		{"every mistake", []string{"config", "check", bad}, 1, nil, []string{bad + ":2: ", "did you mean worker.command", bad + ":3: ", "ready.timeout"}},
		{"a doubt about a default", []string{"config", "check", "--user", abrupt}, 0, []string{abrupt + ": valid"}, []string{abrupt + ": stop.signal: warning: at SIGTERM apache2 drops"}},
		{"no file", []string{"config", "check", ""}, 1, nil, []string{"the name of the file is empty"}},
		{"missing file", []string{"config", "check", "/no/such.yaml"}, 1, nil, []string{"/no/such.yaml"}},
		{"values", []string{"config", "show", good}, 0, []string{"ready.timeout", "5m", "default", good + ":2", "TOKEN", "sh --token=***", "http://u:xxxxx@127.0.0.1/x"}, nil},
		{"values of no instance", []string{"config", "show", "--name", "nope"}, 1, nil, []string{"there is no such instance: nope"}},
		{"the port of no instance", []string{"reclaim", "--dry-run", "--name", "nope"}, 1, nil, []string{"there is no such instance: nope"}},
		{"to adopt as nothing", []string{"adopt", "--yes", "--name", ""}, 64, nil, []string{`"" is no name of an instance`}},
		{"to give back what has no name", []string{"adopt", "--undo", "--name", "a b"}, 64, nil, []string{`"a b" is no name of an instance`}},
		{"a name for an address", []string{"reclaim", "localhost:18789"}, 64, nil, []string{`"localhost:18789" is no address`, "127.0.0.1:18789 or [::1]:18789"}},
		{"no address", []string{"reclaim", "127.0.0.1"}, 64, nil, []string{`"127.0.0.1" is no address`}},
		{"no port", []string{"reclaim", "127.0.0.1:0"}, 64, nil, []string{`"127.0.0.1:0" is no address`}},
		{"nobody there", []string{"reclaim", "127.0.0.1:1", "[::ffff:127.0.0.1]:1"}, 0, []string{"127.0.0.1:1: free\n"}, nil},
		{"unknown command to help with", []string{"help", "statsu"}, 64, nil, []string{`unknown command "statsu"`, "did you mean status"}},
		{"help", []string{"help", "config", "check"}, 0, []string{"Checks FILE", "Examples:"}, nil},
		{"exit codes", []string{"help", "exit-codes"}, 0, []string{"64   the command line is wrong"}, nil},
		{"uninstall what", []string{"uninstall"}, 64, nil, []string{"gateway uninstall --system"}},
		{"no shell", []string{"completion"}, 64, nil, []string{"say which shell: bash, zsh or fish"}},
		{"no such shell", []string{"completion", "ksh"}, 64, nil, []string{"say which shell: bash, zsh or fish"}},
		{"users", []string{"__complete", "install", "--run-as", "ro"}, 0, []string{"root\n", ":4\n"}, []string{"Completion"}},
		{"fields", []string{"__complete", "logs", "GEN"}, 0, []string{"GENERATION=\n", ":6\n"}, []string{"Completion"}},
		{"options of the logs", []string{"__complete", "logs", "--fo"}, 0, []string{"--follow\n", ":4\n"}, []string{"Completion"}},
		{"completion", []string{"completion", "bash"}, 0, []string{"complete"}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			root := newRootCommand(false)
			var out, err bytes.Buffer
			root.SetOut(&out)
			root.SetErr(&err)
			root.SetArgs(append([]string{}, test.arguments...))
			if status := execute(root); status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			check := func(name, got string, want []string) {
				for _, word := range want {
					if !strings.Contains(got, word) {
						t.Errorf("%s lacks %q:\n%s", name, word, got)
					}
				}
				if len(want) == 0 && got != "" {
					t.Errorf("%s should be empty:\n%s", name, got)
				}
			}
			check("standard output", out.String(), test.out)
			check("standard error", err.String(), test.err)
			if strings.Contains(out.String()+err.String(), "hush") {
				t.Error("a secret was printed")
			}
		})
	}
}

// TestCompletionScripts: none has a line that a shell would not be told.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		var script, told bytes.Buffer
		root := newRootCommand(false)
		root.SetOut(&script)
		root.SetArgs([]string{"completion", shell})
		if status := execute(root); status != 0 {
			t.Fatalf("exit status %d", status)
		}
		if _, err := say.NewCompletionWriter(&told).Write(script.Bytes()); err != nil || told.String() != script.String() {
			t.Errorf("of the script for %s %d of %d bytes are told (%v)", shell, told.Len(), script.Len(), err)
		}
	}
}

// TestHelp walks all commands: each says what it is for in lines of 80 columns, has an example, and is in a group.
func TestHelp(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		var out bytes.Buffer
		root := newRootCommand(false)
		root.SetOut(&out)
		root.SetArgs(append(strings.Fields(cmd.CommandPath())[1:], "--help"))
		if status := execute(root); status != 0 {
			t.Errorf("%s --help exits with %d", cmd.CommandPath(), status)
		}
		for line := range strings.Lines(out.String()) {
			if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 80 {
				t.Errorf("the help of %s has a line of %d columns: %s", cmd.CommandPath(), width, line)
			}
		}
		var narrow bytes.Buffer
		cmd.SetOut(&narrow)
		writeHelp(cmd, 40)
		for line := range strings.Lines(narrow.String()) {
			if width := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 40 && len(strings.Fields(strings.TrimSuffix(line, " \\\n"))) > 1 { // a path in a command is not broken
				t.Errorf("in 40 columns the help of %s has a line of %d: %s", cmd.CommandPath(), width, line)
			}
		}
		_, example, found := strings.Cut(out.String(), "\nExamples:\n")
		if example, _, _ = strings.Cut(example, "\n\n"); !found || !strings.Contains(example, cmd.Root().Name()) {
			t.Errorf("the help of %s has no example:\n%s", cmd.CommandPath(), &out)
		}
		if !cmd.AllChildCommandsHaveGroup() && cmd.Parent() == nil {
			t.Errorf("not all commands below %s are in a group", cmd.CommandPath())
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	walk(newRootCommand(false))
}
