package config

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// compiled returns the schema as an editor would use it.
func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(SchemaName, document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(SchemaName)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// asJSON is how an editor sees a file; nil if it is no YAML for it.
func asJSON(t *testing.T, file []byte) (any, bool) {
	t.Helper()
	var value any
	if yaml.Unmarshal(file, &value) != nil {
		return nil, false
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, false
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return document, true
}

// TestSchemaFile: the file beside config.example.yaml is what "config schema" prints.
func TestSchemaFile(t *testing.T) {
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile("../../../" + SchemaName)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(file)); diff != "" {
		t.Errorf("make generate (-schema +%s):\n%s", SchemaName, diff)
	}
	first, _, _ := strings.Cut(string(Example), "\n")
	if want := "# yaml-language-server: $schema=" + SchemaName; first != want {
		t.Errorf("the example begins with %q, want %q", first, want)
	}
}

// TestSchemaExplains: every key has what an editor shows.
func TestSchemaExplains(t *testing.T) {
	schema := compiled(t)
	for _, key := range append(keys(), sections()...) {
		at := schema
		for name := range strings.SplitSeq(key, ".") {
			if at = at.Properties[name]; at == nil {
				t.Fatalf("%s is missing", key)
			}
		}
		// Of two keys below one comment the second has none.
		if at.Description == "" && key != "restart.backoff_max" {
			t.Errorf("%s is not explained", key)
		}
		if strings.Contains(key, ".") && at.Default == nil {
			t.Errorf("%s has no default", key)
		}
	}
}

func TestSchemaTakes(t *testing.T) {
	schema := compiled(t)
	for name, file := range map[string][]byte{
		"the example": Example,
		"nothing":     lines("{}"),
		"everything": lines(
			`listen: ["0.0.0.0:80", "[fe80::1%eth0]:65535", "*:8080", {address: "127.0.0.1:443", name: web}, "unix:/run/a b%$.sock",`,
			`  {address: "unix:/run/app.sock", mode: "0660", user: www-data, group: 33, name: app}]`,
			`worker:`,
			`  command: [/usr/bin/node, index.js, "", "--port", "80"]`,
			`  directory: /srv`,
			`  environment: [A=1, EMPTY=, "URL=http://x/?a=b", WATCHDOG=1, LISTEN_FDS_NOT=1]`,
			`  environment_file: -/etc/worker.env`,
			`  handoff: preload`,
			`  start: at-once`,
			`  idle_stop: 0s`,
			`ready: {probe: http, path: "https://example.org/up", host: "app.example.org:8443", timeout: 1m30s}`,
			`stop: {signal: int, timeout: 500ms}`,
			`restart: {mode: exclusive, backoff_min: 0.5s, backoff_max: 1h, reset_after: 0s, fatal_exit_codes: [1, 255]}`,
			`front_desk: false`,
			`log: {level: debug, format: json}`,
		),
	} {
		if _, err := load("c.yaml", file, noVariables); err != nil {
			t.Errorf("%s is not valid: %v", name, err)
		}
		document, ok := asJSON(t, file)
		if !ok {
			t.Fatalf("%s is no YAML", name)
		}
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// unseen are mistakes that no look at a single value shows.
var unseen = map[string]string{
	"wildcard":                "two addresses together",
	"dual-stack beside":       "two addresses together",
	"dual-stack before":       "two addresses together",
	"dual-stack and not":      "two addresses together",
	"unix twice":              "two addresses together",
	"unix and idle_stop":      "two keys together",
	"mapped":                  "the form of an IPv6 address",
	"no zone":                 "what an address is for",
	"a zone of ::1":           "what an address is for",
	"multicast":               "what an address is for",
	"multicast 6":             "what an address is for",
	"broadcast":               "what an address is for",
	"NUL":                     "any text but one with a NUL byte",
	"path no URL":             "the inside of a URL",
	"intercept hello":         "two keys together",
	"intercept unix":          "two keys together",
	"preload hello":           "two keys together",
	"probe http":              "two keys together",
	"backoff":                 "two keys together",
	"backoff_max":             "two keys together",
	"two documents":           "the way a file is written",
	"too often":               "how much a duration is",
	"handover without a gate": "two keys together",
	"standby alone":           "two keys together",
	"prewarm":                 "two keys together",
}

// TestSchemaRefuses: what the loader refuses, the schema does too, as far as it can.
func TestSchemaRefuses(t *testing.T) {
	schema := compiled(t)
	for name := range unseen {
		if mistakes[name].file == nil {
			t.Errorf("%q is no mistake of the table", name)
		}
	}
	for name, test := range mistakes {
		document, ok := asJSON(t, test.file)
		if !ok {
			continue // an editor says so without a schema
		}
		if err, why := schema.Validate(document), unseen[name]; (err == nil) != (why != "") {
			t.Errorf("%s: %v (unseen: %q)\n%s", name, err, why, test.file)
		}
	}
}
