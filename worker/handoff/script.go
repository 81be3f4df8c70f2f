package handoff

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// interpreters run a file that is named behind them.
var interpreters = []string{"node", "nodejs", "bun", "deno", "python", "pypy", "perl", "ruby", "php", "sh", "bash", "dash", "zsh"}

// isScript reports whether a word is a file beyond doubt: Node.js and others take the name of a module or of one of their own
// commands as well.
func isScript(word string) bool {
	endings := []string{".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".py", ".pl", ".rb", ".php", ".sh"}
	return strings.Contains(word, "/") || slices.Contains(endings, filepath.Ext(word))
}

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
	if len(argv) < 2 || !named(filepath.Base(argv[0]), interpreters...) || strings.HasPrefix(argv[1], "-") || !isScript(argv[1]) {
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
