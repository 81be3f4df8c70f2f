package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/lazy"
)

// readFile puts the values in the file into l.given and reports whether it was a file at all.
//
// Whatever may be left over from a write that was cut short is refused: an empty file, one that has come no further
// than its leading comments, and a section without keys would all be valid, and mean the defaults. Whoever means the
// defaults writes {}.
func (l *loader) readFile(content []byte) bool {
	if line := tooManyParts(content); line > 0 {
		l.reportAt(line, "", "the file has more than %d lines, keys and entries until here: it is another file than was meant, or has to become shorter", partsLimit)
		return false
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document yaml.Node
	err := decoder.Decode(&document)
	switch {
	case errors.Is(err, io.EOF) && len(bytes.TrimSpace(content)) == 0:
		l.reportAt(1, "", "the file is empty: write {} if all defaults are meant")
		return false
	case errors.Is(err, io.EOF) || err == nil && isNull(document.Content[0]):
		l.reportAt(1, "", "the file holds no key: write {} if all defaults are meant")
		return false
	case err != nil:
		l.reportSyntax(content, err)
		return false
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		l.reportSyntax(content, err)
		return false
	default:
		l.reportAt(second.Line, "", "a second YAML document begins here: keep one")
		return false
	}
	root := resolve(document.Content[0])
	if root.Kind != yaml.MappingNode {
		l.reportAt(root.Line, "", "the file holds %s instead of keys such as listen:", kindOf(root))
		return false
	}
	l.readSection("", root, map[string]int{})
	return true
}

// readSection takes the keys of a mapping; section is "" or a section's name, and lines where the keys of the file that are read already are:
// log.level may stand as such, or in its section.
func (l *loader) readSection(section string, mapping *yaml.Node, lines map[string]int) {
	for i := 0; i < len(mapping.Content) && len(l.problems) <= problemsLimit; i += 2 {
		name, node := resolve(mapping.Content[i]), resolve(mapping.Content[i+1])
		line := mapping.Content[i].Line
		if name.Kind != yaml.ScalarNode {
			l.reportAt(line, section, "%s cannot be the name of a key", kindOf(name))
			continue
		}
		if name.Tag == "!!merge" {
			l.reportAt(line, section, "merge keys (<<) are not understood: write the keys out")
			continue
		}
		key := say.Cut(name.Value, shownLimit)
		if section != "" {
			key = section + "." + key
		}
		if first, twice := lines[key]; twice {
			l.reportAt(line, key, "is set twice: remove this one or the one on line %d", first)
			continue
		}
		lines[key] = line
		switch {
		case section == "" && slices.Contains(sections(), key):
			switch {
			case isNull(node):
				l.reportAt(line, key, "has no keys below it: remove the line, or write {} if the defaults are meant")
			case node.Kind != yaml.MappingNode:
				l.reportAt(line, key, "is a section: its keys go below it, indented, instead of %s", kindOf(node))
			default:
				l.readSection(key, node, lines)
			}
		case !slices.Contains(keys(), key):
			// Quoted only where it must be: a key may hold what a terminal obeys.
			if strings.ContainsFunc(key, func(r rune) bool { return !strconv.IsPrint(r) }) {
				key = strconv.Quote(key)
			}
			l.reportAt(line, key, "unknown key%s", suggestion(key))
		default:
			l.take(key, line, node)
		}
	}
}

// take keeps the value of a known key.
func (l *loader) take(key string, line int, node *yaml.Node) {
	if at, mistake := shapeMistake(key, node); mistake != "" {
		l.reportAt(cmp.Or(at, line), key, "%s", mistake)
		return
	}
	l.given[key] = given{node: node, line: line}
}

// shapeMistake says what is wrong with the value of a key that is neither a scalar nor a list of scalars. viper would flatten the one
// and pass over the other. The line is that of the entry of the list, or 0.
func shapeMistake(key string, node *yaml.Node) (line int, mistake string) {
	switch {
	case isNull(node):
		return 0, "has no value: give it one, or remove the line"
	case node.Kind == yaml.MappingNode && key == "worker.environment":
		return 0, `wants a list such as ["NAME=value"], not keys of its own`
	case node.Kind == yaml.MappingNode:
		return 0, "wants a value, not keys of its own"
	case node.Kind == yaml.ScalarNode && len(choices[key]) > 0 && node.ShortTag() != "!!str":
		return 0, noChoice(key, say.Cut(node.Value, shownLimit))
	}
	for i, entry := range node.Content {
		switch value := resolve(entry); {
		case value.Kind == yaml.MappingNode && key == "listen" && plainMapping(value):
		case value.Kind == yaml.MappingNode && key == "worker.environment":
			return entry.Line, fmt.Sprintf(`entry %d is %s: write "NAME=value", in quotes`, i+1, kindOf(value))
		case value.Kind != yaml.ScalarNode:
			return entry.Line, fmt.Sprintf("entry %d is %s: put it in quotes if it is a text", i+1, kindOf(value))
		case isNull(value):
			return entry.Line, fmt.Sprintf("entry %d has no value", i+1)
		}
	}
	return sizeMistake(key, node)
}

// plainMapping reports whether a mapping is small and has no lists or mappings in it.
func plainMapping(node *yaml.Node) bool {
	return len(node.Content) <= 16 && !slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return resolve(n).Kind != yaml.ScalarNode })
}

// reportSyntax says where a file stops being YAML.
func (l *loader) reportSyntax(content []byte, err error) {
	l.reportAt(syntaxLine(content, err), "", "not valid YAML: %s", yamlMessage(err))
}

// syntaxWork is how much of a file is parsed again at the most to find a line, in bytes: more than any configuration needs,
// and less than a second.
const syntaxWork = 8 << 20

// syntaxLine returns the line after the longest beginning of the file that is valid. The line in the library's errors is
// often that of the mapping around the mistake, or off by one; this also finds the line where a quote or a bracket was
// opened that is never closed. It costs the square of the lines: of a file that is too long for it, it returns the library's.
func syntaxLine(content []byte, mistake error) int {
	work := 0
	for n := bytes.Count(content, []byte("\n")); n > 0; n-- {
		content = content[:bytes.LastIndexByte(content, '\n')+1] // n lines
		if work += len(content); work > syntaxWork {
			return libraryLine(mistake)
		}
		decoder := yaml.NewDecoder(bytes.NewReader(content))
		var err error
		for err == nil {
			err = decoder.Decode(new(yaml.Node))
		}
		if errors.Is(err, io.EOF) {
			return n + 1
		}
		content = content[:len(content)-1]
	}
	return 1
}

// libraryLine is the line in an error of the YAML library, 1 if there is none.
func libraryLine(err error) int {
	line, _ := strconv.Atoi(yamlLine().FindString(err.Error()))
	return max(line, 1)
}

var (
	yamlPrefix = lazy.Regexp(`^yaml: (unmarshal errors:\s+)?(line \d+: )?`)
	yamlLine   = lazy.Regexp(`\d+`)
)

// yamlMessage is an error of the YAML library without its line.
func yamlMessage(err error) string {
	text := yamlPrefix().ReplaceAllString(err.Error(), "")
	if text == "found character that cannot start any token" {
		text += ": a tab where only spaces may indent, or one of @ ` % in front of a text, which belongs in quotes then"
	}
	return text
}

// resolve follows an alias to what it stands for.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode {
		return node.Alias
	}
	return node
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// kindOf says what a node is, for a person.
func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
		return "a plain value" // without it: it may be a secret
	}
}

// keys returns every known key.
func keys() []string {
	var names []string
	for _, f := range new(Config).fields() {
		names = append(names, f.key)
	}
	return names
}

// sections returns the keys that hold keys.
func sections() []string {
	var names []string
	for _, key := range keys() {
		if section, _, nested := strings.Cut(key, "."); nested && !slices.Contains(names, section) {
			names = append(names, section)
		}
	}
	return names
}
