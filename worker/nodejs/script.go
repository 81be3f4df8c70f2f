package nodejs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Write writes a script to the directory, and returns its path.
func Write(directory, name string, script []byte) (string, error) {
	path := filepath.Join(directory, name)
	// One that lies there unchanged is used as it is: /run may be full by now. A worker that has become another user reads it as well.
	if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, script) {
		return path, nil
	}
	// By itself renameio would try, with files of its own, whether it can use /tmp: the first client would wait for that.
	if err := renameio.WriteFile(path, script, 0o644, renameio.WithTempDir(directory), renameio.IgnoreUmask()); err != nil {
		return "", fmt.Errorf("write a script for Node.js: %w", err)
	}
	return path, nil
}

// Require is the option that has Node.js load a script before the program's own.
func Require(path string) string { return "--require " + quote(path) }

// Import is the option that has Node.js load a module before the program's own, and wait for it.
func Import(path string) string { return "--import " + quote(path) }

// Options is the entry NODE_OPTIONS of an environment with more options behind its own, which scripts are loaded in the order of.
func Options(environ []string, options ...string) string {
	return optionsOf(append([]string{given(environ)}, options...))
}

// given is what NODE_OPTIONS of an environment says.
func given(environ []string) (options string) {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "NODE_OPTIONS="); ok {
			options = value
		}
	}
	return options
}

func optionsOf(options []string) string {
	return "NODE_OPTIONS=" + strings.TrimSpace(strings.Join(options, " "))
}

// quote quotes a word for NODE_OPTIONS, where double quotes group and a backslash inside them escapes (ParseNodeOptionsEnvVar in
// Node's src/node_options.cc).
func quote(word string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(word) + `"`
}
