package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var (
	// interpreters run a file that is named behind them.
	interpreters = regexp.MustCompile(`^(node(js)?|bun|deno|python|pypy|perl|ruby|php|sh|bash|dash|zsh)(-?[0-9.]+)?$`)
	// A word that is a file beyond doubt: Node.js and others take the name of a module or of one of their own commands as well.
	scriptName = regexp.MustCompile(`/|\.([cm]?js|[cm]?ts|py|pl|rb|php|sh)$`)
)

// Missing says what a command names that is not there, besides its program: a script's interpreter, or the file that an
// interpreter is to run, as far as the command shows it. Path is the program, which [Lookup] has found; nothing is executed.
// It returns nil where nothing is known to be missing.
func Missing(path string, argv []string, directory string) error {
	interpreter, err := shebang(path)
	if err != nil {
		return nil // what cannot be looked at is not known to be missing
	}
	if name, _, _ := strings.Cut(interpreter, " "); name != "" {
		if _, err := os.Stat(name); os.IsNotExist(err) {
			return fmt.Errorf("%s is a script for %q, which is not there", path, name)
		}
	}
	return MissingScript(argv, directory)
}

// MissingScript is the part of [Missing] about the file that an interpreter is to run.
func MissingScript(argv []string, directory string) error {
	if len(argv) < 2 || !interpreters.MatchString(filepath.Base(argv[0])) || strings.HasPrefix(argv[1], "-") || !scriptName.MatchString(argv[1]) {
		return nil
	}
	script := argv[1]
	if !filepath.IsAbs(script) {
		script = filepath.Join(directory, script)
	}
	for _, ending := range []string{"", ".js", ".cjs", ".mjs"} { // as Node.js looks for it
		if _, err := os.Stat(script + ending); !os.IsNotExist(err) {
			return nil
		}
	}
	return fmt.Errorf("%s is to run %s, which is not there", filepath.Base(argv[0]), script)
}
