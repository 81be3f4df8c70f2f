package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"openclaw-gateway/lazy"
)

// SchemaName is the file that the first line of [Example] names: it lies beside the configuration. SchemaTitle is its
// title, by which a later version knows its own file.
const (
	SchemaName  = "config.schema.json"
	SchemaTitle = "gateway"
)

// schema is what we use of JSON Schema, draft 2020-12.
type schema struct {
	Schema      string     `json:"$schema,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        string     `json:"type,omitempty"`
	Enum        []string   `json:"enum,omitempty"`
	Pattern     string     `json:"pattern,omitempty"`
	Minimum     int        `json:"minimum,omitempty"`
	Maximum     int        `json:"maximum,omitempty"`
	MinItems    int        `json:"minItems,omitempty"`
	MaxItems    int        `json:"maxItems,omitempty"`
	UniqueItems bool       `json:"uniqueItems,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	PrefixItems []*schema  `json:"prefixItems,omitempty"`
	AllOf       []*schema  `json:"allOf,omitempty"`
	AnyOf       []*schema  `json:"anyOf,omitempty"`
	Not         *schema    `json:"not,omitempty"`
	Default     any        `json:"default,omitempty"`
	Properties  properties `json:"properties,omitempty"`
	Required    []string   `json:"required,omitempty"`
	// Additional is false where only the properties are allowed.
	Additional *bool `json:"additionalProperties,omitempty"`
}

// properties keeps the order of config.example.yaml, in which editors offer them.
type properties []property

type property struct {
	name   string
	schema *schema
}

// MarshalJSON makes an object of the properties.
func (p properties) MarshalJSON() ([]byte, error) {
	var object bytes.Buffer
	encoder := json.NewEncoder(&object)
	encoder.SetEscapeHTML(false)
	object.WriteByte('{')
	for i, property := range p {
		if i > 0 {
			object.WriteByte(',')
		}
		fmt.Fprintf(&object, "%q:", property.name)
		if err := encoder.Encode(property.schema); err != nil {
			return nil, err
		}
	}
	object.WriteByte('}')
	return object.Bytes(), nil
}

// Schema returns the JSON Schema of the configuration, for editors: what a key is for, as [Example] explains it, which
// values it takes, and its default. It refuses what can be seen in one value; [Load] refuses more.
func Schema() ([]byte, error) {
	comments, err := exampleComments()
	if err != nil {
		return nil, err
	}
	root := section("The configuration of the gateway launcher.")
	root.Schema, root.Title = "https://json-schema.org/draft/2020-12/schema", SchemaTitle
	sections := map[string]*schema{"": root}
	for _, f := range Default().fields() {
		name, key, nested := strings.Cut(f.key, ".")
		if !nested {
			name, key = "", name
		} else if sections[name] == nil {
			sections[name] = section(comments[name])
			root.Properties = append(root.Properties, property{name, sections[name]})
		}
		s := schemaOf(f)
		s.Description, s.Default = comments[f.key], plain(f.pointer)
		sections[name].Properties = append(sections[name].Properties, property{key, s})
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = encoder.Encode(root)
	return text.Bytes(), err
}

func section(description string) *schema {
	return &schema{Type: "object", Description: description, Additional: new(bool)}
}

const (
	durationPattern = `^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$`
	portPattern     = `0*([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])`
	unixPattern     = `^unix:/[^\x00-\x1f\x7f]{0,105}[^\x00-\x20\x7f/]$`
	hostPattern     = `^(([A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\])(:` + portPattern + `)?)?$`
	addressPattern  = `^(\*|[0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[^\]]+)?\]):` + portPattern + `$`
)

// more says what the type of a key does not.
var more = map[string]func(*schema){
	"listen":                   func(s *schema) { s.MinItems, s.UniqueItems = 1, true },
	"worker.command":           command,
	"alarm.command":            command,
	"worker.directory":         func(s *schema) { s.Pattern = `^(/[\s\S]*)?$` },
	"worker.environment":       func(s *schema) { s.Items = environmentEntry() },
	"worker.environment_file":  func(s *schema) { s.Pattern = `^(-?/[\s\S]*)?$` },
	"ready.path":               path,
	"ready.host":               func(s *schema) { s.Pattern = hostPattern },
	"ready.timeout":            positive,
	"alive.path":               path,
	"alive.interval":           positive,
	"alive.timeout":            positive,
	"alive.failures":           func(s *schema) { s.Minimum = 1 },
	"alive.stop_timeout":       positive,
	"stop.timeout":             positive,
	"restart.backoff_min":      positive,
	"restart.backoff_max":      positive,
	"restart.fatal_exit_codes": func(s *schema) { s.Items.Minimum, s.Items.Maximum = 1, 255 },
}

func positive(s *schema) { s.AllOf = []*schema{{Pattern: `[1-9]`}} }

func command(s *schema) { s.PrefixItems = []*schema{{Type: "string", Pattern: `^[^~\s]|^\s+\S`}} }

func path(s *schema) { s.Pattern = `^(/|/[^/\s]\S*|https?://[^/\s]\S*)?$` }

func environmentEntry() *schema {
	names := append(slices.Clone(reservedNames), "WATCHDOG_[^=]*")
	return &schema{
		Type: "string", Pattern: strings.TrimSuffix(namePattern().String(), "$") + "=",
		Not: &schema{Pattern: "^(" + strings.Join(names, "|") + ")="},
	}
}

// schemaOf says which values a key takes.
func schemaOf(f field) *schema {
	s := &schema{Type: "string"}
	switch f.pointer.(type) {
	case *[]Listener:
		address := &schema{Type: "string", AnyOf: []*schema{{Pattern: addressPattern}, {Pattern: unixPattern}}}
		who := &schema{AnyOf: []*schema{{Type: "string", Pattern: userName().String()}, {Type: "integer"}}}
		named := &schema{Type: "object", Additional: new(bool), Required: []string{"address"}, Properties: properties{
			{"address", address},
			{"name", &schema{Type: "string", Pattern: `^[ -9;-~]{0,255}$`}},
			{"mode", &schema{Type: "string", Pattern: socketMode().String()}},
			{"user", who},
			{"group", who},
		}}
		s = list(&schema{AnyOf: []*schema{address, named}})
	case *[]string:
		s = list(&schema{Type: "string"})
	case *[]int:
		s = list(&schema{Type: "integer"})
	case *bool:
		s.Type = "boolean"
	case *int:
		s.Type = "integer"
	case *time.Duration:
		s.Pattern = durationPattern
	case *syscall.Signal:
		s.AnyOf = signalNames()
	case *slog.Level:
		s.Enum = levelNames()
	default:
		s.Enum = choices[f.key]
	}
	if s.Type == "array" {
		s.MaxItems = entriesOf(f.key)
	}
	if add := more[f.key]; add != nil {
		add(s)
	}
	return s
}

func list(items *schema) *schema { return &schema{Type: "array", Items: items} }

// signalNames offers the full names, and takes the other spellings that parseSignal does.
func signalNames() []*schema {
	var names, spellings []string
	for number := syscall.Signal(1); number < 32; number++ {
		name := unix.SignalName(number)
		if name == "" || number == unix.SIGSTOP {
			continue
		}
		names = append(names, name)
		spellings = append(spellings, anyCase(strings.TrimPrefix(name, "SIG")))
	}
	return []*schema{{Enum: names}, {Pattern: "^(" + anyCase("SIG") + ")?(" + strings.Join(spellings, "|") + ")$"}}
}

// anyCase returns a pattern: the dialect of JSON Schema has no flag for it.
func anyCase(word string) string {
	var pattern strings.Builder
	for _, r := range word {
		if lower := strings.ToLower(string(r)); lower != string(r) {
			pattern.WriteString("[" + string(r) + lower + "]")
		} else {
			pattern.WriteRune(r)
		}
	}
	return pattern.String()
}

var commentMark = lazy.Regexp(`(?m)^#\s?`)

// exampleComments returns what config.example.yaml says above each key and section.
func exampleComments() (map[string]string, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(Example, &document); err != nil {
		return nil, err
	}
	comments := map[string]string{}
	var walk func(prefix string, mapping *yaml.Node)
	walk = func(prefix string, mapping *yaml.Node) {
		for i := 0; i < len(mapping.Content); i += 2 {
			name, value := mapping.Content[i], mapping.Content[i+1]
			comments[prefix+name.Value] = commentMark().ReplaceAllString(name.HeadComment, "")
			if value.Kind == yaml.MappingNode {
				walk(prefix+name.Value+".", value)
			}
		}
	}
	walk("", document.Content[0])
	return comments, nil
}
