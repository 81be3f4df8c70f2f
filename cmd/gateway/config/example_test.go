package config

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestExampleIsTheDefaults(t *testing.T) {
	c, err := load("config.example.yaml", Example, noVariables)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range Default().Changed(c) {
		t.Errorf("%s in config.example.yaml is not the default", key)
	}
	// Changed compares as plain values; this compares as Go does, an empty list from no list included.
	if diff := cmp.Diff(Default(), c, equateAddresses, cmpopts.IgnoreFields(Config{}, "Path", "Content", "Source")); diff != "" {
		t.Errorf("built in (-), config.example.yaml (+):\n%s", diff)
	}
	for _, key := range keys() {
		if c.Source[key] == "" {
			t.Errorf("config.example.yaml lacks %s", key)
		}
	}
}

func TestExampleIsCommented(t *testing.T) {
	// A block of keys without a blank line in it is explained by its first line.
	for _, block := range strings.Split(string(Example), "\n\n") {
		if first := strings.TrimSpace(block); !strings.HasPrefix(first, "#") {
			t.Errorf("no comment above:\n%s", block)
		}
	}
	for i, line := range strings.Split(string(Example), "\n") {
		if len([]rune(line)) > 140 {
			t.Errorf("line %d is too long to read", i+1)
		}
	}
}

// TestExampleForOpenClaw reads what the comments on top tell the user of OpenClaw to write.
func TestExampleForOpenClaw(t *testing.T) {
	var file []string
	for line := range strings.Lines(string(Example)) {
		if text, ok := strings.CutPrefix(line, "#   "); ok && (len(file) > 0 || strings.HasPrefix(text, "worker:")) {
			file = append(file, text)
		} else if len(file) > 0 {
			break
		}
	}
	c, err := load("openclaw.yaml", []byte(strings.Join(file, "")), noVariables)
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, strings.Join(file, ""))
	}
	if len(c.Worker.Command) < 2 || !strings.HasSuffix(c.Worker.Command[1], "openclaw/dist/index.js") ||
		!slices.Contains(c.Worker.Environment, "OPENCLAW_SUPERVISOR_MODE=external") ||
		!slices.Contains(c.Worker.Environment, "OPENCLAW_SERVICE_REPAIR_POLICY=external") ||
		c.Ready.Path != "/startupz" {
		t.Errorf("got %+v, %+v", c.Worker, c.Ready)
	}
}
