package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
)

var update = flag.Bool("update", false, "write the man pages")

// TestManPages: the man pages say what the help and the example configuration say.
func TestManPages(t *testing.T) {
	for name, page := range map[string]string{"gateway.8": commandPage(newRootCommand(false)), "gateway.yaml.5": configPage(t)} {
		path := filepath.Join("../../docs/man", name)
		want := md2man.Render([]byte(page))
		if *update {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("docs/man/%s is not what the help says: make generate", name)
		}
	}
}

// commandPage is gateway(8) in Markdown, from the commands' own help.
func commandPage(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% gateway 8 \"\" \"\" \"gateway\"\n\n# NAME\n\ngateway - %s\n\n", root.Short)
	fmt.Fprint(&b, "# SYNOPSIS\n\n**gateway** *COMMAND* [*OPTIONS*]\n\n")
	fmt.Fprintf(&b, "# DESCRIPTION\n\n%s\n\n# COMMANDS\n\n", escape(root.Long))
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		for _, sub := range command.Commands() {
			if sub.Hidden || !sub.Runnable() {
				continue
			}
			if sub.HasSubCommands() {
				walk(sub)
				continue
			}
			fmt.Fprintf(&b, "## %s\n\n", escape(strings.TrimSuffix(sub.UseLine(), " [flags]")))
			text := sub.Long
			if text == "" {
				text = strings.ToUpper(sub.Short[:1]) + sub.Short[1:] + "."
			}
			fmt.Fprintf(&b, "%s\n\n", escape(text))
			sub.LocalFlags().VisitAll(func(f *pflag.Flag) {
				value, usage := pflag.UnquoteUsage(f)
				if value != "" {
					value = " *" + value + "*"
				}
				if f.Name != "help" {
					fmt.Fprintf(&b, "**--%s**%s\n: %s\n\n", f.Name, value, escape(usage))
				}
			})
			fmt.Fprintf(&b, "Examples:\n\n    %s\n\n", strings.ReplaceAll(sub.Example, "\n", "\n    "))
		}
	}
	walk(root)
	b.WriteString("# EXIT STATUS\n\n")
	for _, code := range api.ExitCodes {
		fmt.Fprintf(&b, "**%s**\n: %s\n\n", code.Status, escape(code.Means))
	}
	b.WriteString("# FILES\n\n" +
		"*/etc/openclaw-gateway/config.yaml*, *~/.config/openclaw-gateway/config.yaml*\n: the configuration, see gateway.yaml(5)\n\n" +
		"*/etc/openclaw-gateway/config.schema.json*, *~/.config/openclaw-gateway/config.schema.json*\n: its JSON Schema, for editors; **gateway install** writes it\n\n" +
		"*openclaw-gateway.socket*, *openclaw-gateway.service*\n: the units that **gateway install** writes. Of an instance these and the directories have its name " +
		"behind them: openclaw-gateway-*NAME*\n\n" +
		"*$RUNTIME_DIRECTORY/control.sock*\n: the launcher's control socket, HTTP and JSON, for its own user and root\n\n" +
		"*$STATE_DIRECTORY/last-good.yaml*\n: the last configuration whose worker became ready\n\n" +
		"*$STATE_DIRECTORY/version*\n: the version that wrote there last; an earlier one leaves the others alone and goes on without\n\n" +
		"*$STATE_DIRECTORY/history.jsonl*\n: the last hundred generations, a line of JSON each\n\n" +
		"*$STATE_DIRECTORY/binds.json*, *$STATE_DIRECTORY/sockets.json*\n: the command of a worker that binds its address itself; in which mode, and with which options, the sockets came\n\n" +
		"*$STATE_DIRECTORY/alarm*\n: while **alarm.command** has told that clients are not served: since when; the next launcher goes on from there\n\n" +
		"*$CACHE_DIRECTORY/node*, *$CACHE_DIRECTORY/prewarm*\n: what Node.js has compiled, and which modules it loads (**worker.cache**, **restart.prewarm**)\n\n" +
		"*/var/lib/openclaw-gateway.adopt*, *~/.local/state/openclaw-gateway.adopt*\n: what **gateway adopt** has replaced, for **--undo**\n\n" +
		"# SEE ALSO\n\ngateway.yaml(5), systemd.socket(5), systemctl(1), journalctl(1)\n")
	return b.String()
}

// configPage is gateway.yaml(5) in Markdown, from the comments of the example.
func configPage(t *testing.T) string {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(config.Example, &document); err != nil {
		t.Fatal(err)
	}
	defaults := map[string]any{}
	for _, value := range config.Default().Values() {
		defaults[value.Key] = value.Value
	}
	var b strings.Builder
	b.WriteString("% gateway.yaml 5 \"\" \"\" \"gateway\"\n\n# NAME\n\ngateway.yaml - the configuration of gateway(8)\n\n# DESCRIPTION\n\n")
	// It begins with lines that are for an editor.
	_, description, found := strings.Cut(document.HeadComment, "\n#\n")
	if !found || !strings.HasPrefix(document.HeadComment, "# yaml-language-server: ") {
		t.Fatalf("the example begins with\n%s", document.HeadComment)
	}
	b.WriteString(comment(description) + "\n# KEYS\n\n")
	documented := 0
	var walk func(prefix string, mapping *yaml.Node)
	walk = func(prefix string, mapping *yaml.Node) {
		for pair := range slices.Chunk(mapping.Content, 2) {
			key := prefix + pair[0].Value
			if pair[1].Kind == yaml.MappingNode {
				fmt.Fprintf(&b, "## %s\n\n%s", key, comment(pair[0].HeadComment))
				walk(key+".", pair[1])
				continue
			}
			value, known := defaults[key]
			if !known {
				t.Errorf("%s is in the example, and no key", key)
			}
			documented++
			// JSON is how the file writes it too, but for the quotes of a word.
			written, err := json.Marshal(value)
			if err != nil {
				t.Fatal(err)
			}
			if word, isText := value.(string); isText && word != "" {
				written = []byte(word)
			}
			fmt.Fprintf(&b, "## %s\n\nDefault: **%s**\n\n%s", key, escape(string(written)), comment(pair[0].HeadComment))
		}
	}
	walk("", document.Content[0])
	if documented != len(defaults) {
		t.Errorf("%d keys of %d are in the example", documented, len(defaults))
	}
	b.WriteString("# SEE ALSO\n\ngateway(8)\n")
	return b.String()
}

// comment turns a comment of YAML into Markdown: a line that is indented, or is a
// table's, stays as it is.
func comment(text string) string {
	var b strings.Builder
	pre := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "), "\n")
		indented := strings.Contains(line, "  ") || (pre && line == "")
		if indented != pre {
			b.WriteString("\n")
		}
		switch pre = indented; {
		case pre:
			b.WriteString("    " + line + "\n")
		default:
			b.WriteString(escape(line) + "\n")
		}
	}
	return b.String() + "\n"
}

// escape takes their meaning from the characters that mean something in Markdown.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "`", "\\`", "[", `\[`, "]", `\]`, "~", `\~`).Replace(text)
}
