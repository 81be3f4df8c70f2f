package openclaw

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/read"
)

// Package is what is read of a package.json.
type Package struct {
	Name    string
	Version string
	Engines struct {
		// Node is the range of versions of Node.js that it runs on, as npm writes it.
		Node string
	}
}

// ReadPackage reads the package.json of the package that an entry file belongs to:
// in the folder of the entry, or in the one above if that is dist, src or scripts.
func ReadPackage(entry string) (Package, error) {
	folder := filepath.Dir(entry)
	switch filepath.Base(folder) {
	case "dist", "src", "scripts":
		folder = filepath.Dir(folder)
	}
	path := filepath.Join(folder, "package.json")
	content, _, err := read.File(path, read.PackageLimit) // the place is the process's choice
	if err != nil {
		return Package{}, fmt.Errorf("read the package of %s: %w", entry, err)
	}
	var pkg Package
	if err := json.Unmarshal(content, &pkg); err != nil {
		return Package{}, fmt.Errorf("read %s: %w", path, err)
	}
	return pkg, nil
}

// Installed is the version of the package that an entry file belongs to now, wherever a link on the way leads; "" where that
// cannot be told.
func Installed(entry string) string {
	if !filepath.IsAbs(entry) {
		return ""
	}
	if resolved, err := read.Resolve(entry); err == nil {
		entry = resolved
	}
	pkg, err := ReadPackage(entry)
	if err != nil || !slices.Contains(names, pkg.Name) {
		return ""
	}
	return pkg.Version
}

// Entry returns the entry file of a command that starts an OpenClaw gateway, ""
// if it is none, or one that does not name the file.
func Entry(argv []string) string {
	entry, ok := invocation(argv)
	if !ok || strings.TrimSpace(entry) == "" {
		return ""
	}
	return entry
}
