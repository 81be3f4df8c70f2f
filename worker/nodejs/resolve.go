package nodejs

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed resolve.cjs
var resolveScript []byte

// keeps reports whether options have Node.js keep to what it is permitted.
func keeps(options string) bool {
	return strings.Contains(options, "--permission") || strings.Contains(options, "--experimental-permission")
}

// Entry returns which script a command has Node.js run, an absolute path without links; argv[0] is Node.js.
func Entry(argv []string, directory string) (string, error) {
	// Options may take a value as the next word, which nobody could tell from the script.
	i := slices.IndexFunc(argv[1:], func(word string) bool { return !strings.HasPrefix(word, "--") || !strings.Contains(word, "=") }) + 1
	if i == 0 || strings.HasPrefix(argv[i], "-") {
		return "", errors.New("worker.command does not show which script Node.js is to run: options in front of it have to be written --option=value")
	}
	entry := argv[i]
	if !filepath.IsAbs(entry) {
		entry = filepath.Join(directory, entry)
	}
	entry, err := filepath.EvalSymlinks(entry)
	if err != nil {
		return "", fmt.Errorf("the script that Node.js is to run: %w", err)
	}
	return entry, nil
}

// Manifest is the package.json in the folder or the next one above it; "" where there is none.
func Manifest(folder string) string {
	for {
		path := filepath.Join(folder, "package.json")
		if _, err := os.Stat(path); err == nil {
			return path
		}
		if folder == filepath.Dir(folder) {
			return ""
		}
		folder = filepath.Dir(folder)
	}
}

// Resolve returns what is added to the environment of a command so that Node.js finds the modules of its program sooner: nothing, where
// that is no ES module of a package, or cannot be told, or may read some files only. Place is where the script is written.
func Resolve(argv []string, directory, place string, environ []string) ([]string, error) {
	if keeps(given(environ)) || slices.ContainsFunc(argv[1:], keeps) {
		return nil, nil // it could not read the script, and would not start
	}
	entry, err := Entry(argv, directory)
	if err != nil {
		return nil, nil // Node.js starts as ever
	}
	manifest := Manifest(filepath.Dir(entry))
	var of struct {
		Type string `json:"type"`
	}
	content, err := os.ReadFile(manifest)
	if err != nil || json.Unmarshal(content, &of) != nil || of.Type != "module" && filepath.Ext(entry) != ".mjs" {
		return nil, nil // Node.js tells what is wrong with it
	}
	script, err := Write(place, "resolve.cjs", resolveScript)
	if err != nil {
		return nil, err
	}
	option := Require(script)
	order, err := json.Marshal(map[string]string{"option": option, "folder": filepath.Dir(manifest)})
	if err != nil {
		return nil, err
	}
	// In front of the program's own options: whose hooks are there first is asked last.
	return []string{optionsOf([]string{option, given(environ)}), "GATEWAY_RESOLVE=" + string(order)}, nil
}
