package config

import (
	"reflect"
	"slices"
	"strings"

	"openclaw-gateway/netaddr"

	"go.yaml.in/yaml/v3"
)

// variable returns the name of the variable that overrides a key: GATEWAY_LOG_LEVEL for log.level.
func variable(key string) string {
	return "GATEWAY_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// readVariables takes the overrides from the environment. Only the names of known keys are looked up: GATEWAY_GENERATION
// and others that some program sets for its own ends are none of our business.
//
// A text is taken as it stands. A list is written as in the file, ["node", "x.js"]; whatever does not begin with [ is
// its only entry, and so is an address such as [::1]:18789.
func (l *loader) readVariables(lookup func(string) (string, bool)) {
	for _, f := range l.config.fields() {
		text, ok := lookup(variable(f.key))
		if !ok || text == "" {
			continue
		}
		l.given[f.key] = given{variable: true} // also if it is wrong: what the file says does not count any more
		node := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
		switch f.pointer.(type) {
		case *[]string, *[]Listener:
			if _, err := netaddr.Parse(text); err != nil && strings.HasPrefix(text, "[") {
				node = l.parseVariable(f.key, text)
			}
		case *[]int, *bool, *int:
			node = l.parseVariable(f.key, text)
		}
		if node == nil {
			continue
		}
		if node.Kind == yaml.ScalarNode && reflect.TypeOf(f.pointer).Elem().Kind() == reflect.Slice {
			node = &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{node}}
		}
		if _, mistake := shapeMistake(f.key, node); mistake != "" {
			l.report(f.key, "%s", mistake)
			continue
		}
		l.given[f.key] = given{node: node, variable: true}
	}
}

// Blamed returns the variables that the text of [Errors] blames, and nothing where it blames the file.
func Blamed(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, ": ")
		if slices.ContainsFunc(keys(), func(key string) bool { return variable(key) == name }) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// parseVariable reads the value of a variable as YAML. It returns nil if it is none, and has reported it then.
func (l *loader) parseVariable(key, text string) *yaml.Node {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		l.report(key, "not valid YAML: %s", yamlMessage(err))
		return nil
	}
	if document.Kind == 0 {
		l.report(key, "has no value")
		return nil
	}
	return resolve(document.Content[0])
}
