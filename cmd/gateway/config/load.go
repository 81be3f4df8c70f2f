package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
)

// Load reads the configuration from the file at path and from the environment, where GATEWAY_LOG_LEVEL stands for
// log.level and so on: such a variable wins over the file unless it is empty. Without a path it is the defaults and the
// environment. Where owners are named, the file has to belong to one of these uids, or to root.
//
// Mistakes come back as [Errors], all of them at once. A file that cannot be read is an error of [read.File], wrapped.
func Load(path string, owners ...int) (*Config, error) {
	if path == "" {
		return load("", nil, os.LookupEnv)
	}
	content, info, err := ReadFile(path, owners...)
	if err != nil {
		return nil, err
	}
	cfg, err := load(path, content, os.LookupEnv)
	if cfg != nil {
		cfg.Written = info.ModTime()
	}
	return cfg, err
}

// ReadFile reads the file as [Load] does.
func ReadFile(path string, owners ...int) ([]byte, fs.FileInfo, error) {
	content, info, err := read.File(path, read.ConfigLimit, owners...)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the configuration: %w", err)
	}
	return content, info, nil
}

// Parse is Load for a file that has been read already, or is not saved yet; content is nil without a path.
func Parse(path string, content []byte) (*Config, error) {
	return load(path, content, os.LookupEnv)
}

// load is Load without the operating system. There is no file if path is empty.
func load(path string, content []byte, lookup func(string) (string, bool)) (*Config, error) {
	l := &loader{path: path, config: &Config{Path: path, Content: content, Source: map[string]string{}}, given: map[string]given{}}
	if path != "" && !l.readFile(content) {
		return nil, l.problems // a file that is no YAML says nothing about its keys
	}
	l.readVariables(lookup)
	l.decode()
	l.validate()
	if len(l.problems) > 0 {
		l.sort()
		if len(l.problems) > problemsLimit {
			l.problems = append(l.problems[:problemsLimit], Problem{File: path, Message: "there are more mistakes: correct these first"})
		}
		return nil, l.problems
	}
	return l.config, nil
}

// loader collects the values and mistakes of one Load.
type loader struct {
	path     string
	config   *Config
	given    map[string]given
	problems Errors
}

// given is what the file or a variable says about a key.
type given struct {
	node     *yaml.Node // nil if it was wrong already
	line     int        // of the key; 0 for a variable
	variable bool
}

// decode has viper put what was given above the defaults, and decode it all. A key with a mistake keeps its zero value.
func (l *loader) decode() {
	v := viper.New()
	for _, f := range Default().fields() {
		v.SetDefault(f.key, reflect.ValueOf(f.pointer).Elem().Interface())
	}
	for key, given := range l.given {
		if given.node == nil {
			continue
		}
		var value any
		if err := given.node.Decode(&value); err != nil {
			l.report(key, "%s", yamlMessage(err))
			continue
		}
		l.config.Source[key] = l.place(key).place()
		if given.variable {
			// Not by viper's BindEnv: it hands over the bare string, in which a list is not told from a text.
			v.Set(key, value)
			continue
		}
		settings := map[string]any{key: value}
		if section, name, nested := strings.Cut(key, "."); nested {
			settings = map[string]any{section: map[string]any{name: value}}
		}
		if err := v.MergeConfigMap(settings); err != nil {
			l.report(key, "%s", err)
		}
	}
	err := v.UnmarshalExact(l.config, viper.DecodeHook(mapstructure.DecodeHookFuncValue(decodeHook)),
		func(c *mapstructure.DecoderConfig) { c.WeaklyTypedInput = false })
	l.reportDecoding(err)
}

// reportDecoding takes the mistakes out of the tree of errors that mapstructure returns.
func (l *loader) reportDecoding(err error) {
	var several interface{ Unwrap() []error }
	var one *mapstructure.DecodeError
	switch {
	case err == nil:
	case errors.As(err, &several):
		for _, err := range several.Unwrap() {
			l.reportDecoding(err)
		}
	case errors.As(err, &one):
		l.report(one.Name(), "%s", one.Unwrap())
	default:
		l.report("", "%s", err)
	}
}

// report adds a problem with a key, or with one element of a list: listen[1].
func (l *loader) report(key, format string, args ...any) {
	l.add(l.place(key), format, args...)
}

// reportAt adds a problem with a line of the file.
func (l *loader) reportAt(line int, key, format string, args ...any) {
	l.add(Problem{File: l.path, Line: line, Key: key}, format, args...)
}

// add takes a problem that lacks its message. Of too many there is one more, which tells.
func (l *loader) add(problem Problem, format string, args ...any) {
	if len(l.problems) <= problemsLimit {
		problem.Message = say.Cut(fmt.Sprintf(format, args...), messageLimit)
		l.problems = append(l.problems, problem)
	}
}

// place returns a problem that lacks only its message.
func (l *loader) place(key string) Problem {
	var index int
	key, element, isElement := strings.Cut(key, "[")
	if isElement {
		// The index is written by this package or by mapstructure, so it is one.
		_, _ = fmt.Sscanf(element, "%d]", &index)
	}
	given, ok := l.given[key]
	problem := Problem{File: l.path, Line: given.line, Key: key}
	switch {
	case given.variable:
		problem.File = variable(key)
	case !ok && l.path == "":
		problem.File = "default"
	case isElement && ok && index < len(given.node.Content):
		problem.Line = given.node.Content[index].Line
	}
	return problem
}

// ok says whether nothing was wrong so far with any of these keys.
func (l *loader) ok(keys ...string) bool {
	return !slices.ContainsFunc(l.problems, func(p Problem) bool { return slices.Contains(keys, p.Key) })
}

// sort puts the problems in the order of the lines, those with variables last.
func (l *loader) sort() {
	elsewhere := func(p Problem) int {
		if p.File == l.path {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(l.problems, func(a, b Problem) int {
		return cmp.Or(elsewhere(a)-elsewhere(b), a.Line-b.Line, strings.Compare(a.File+a.Key, b.File+b.Key))
	})
}
