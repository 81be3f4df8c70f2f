package openclaw

import (
	"path/filepath"
	"strings"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/lazy"
)

// NodeVersion is the version of a Node.js, such as 24.21.0, as far as what lies beside the program tells it; "" where nothing
// does. The program is not executed: who looks may be root, and the program anybody's.
func NodeVersion(program string) string {
	if resolved, err := read.Resolve(program); err == nil {
		program = resolved
	}
	folder := filepath.Dir(program)
	if filepath.Base(folder) == "bin" {
		folder = filepath.Dir(folder)
	}
	// A release as nodejs.org has it, and whoever installs that: nvm, fnm, volta, asdf, n, NodeSource.
	if header, _, err := read.File(filepath.Join(folder, "include/node/node_version.h"), read.PackageLimit); err == nil {
		if version := headerVersion(header); version != "" {
			return version
		}
	}
	// npm's package node, and those for each platform that it is made of.
	if pkg, err := ReadPackage(filepath.Join(folder, "node")); err == nil && (pkg.Name == "node" || strings.HasPrefix(pkg.Name, "node-")) {
		return exactVersion().FindString(pkg.Version)
	}
	// Folders are named by it: ~/.nvm/versions/node/v24.21.0, /nix/store/…-nodejs-24.21.0, Cellar/node/24.21.0.
	if match := versionFolder().FindStringSubmatch(filepath.Base(folder)); match != nil {
		return match[1]
	}
	return ""
}

var (
	exactVersion  = lazy.Regexp(`^\d{1,6}\.\d{1,6}\.\d{1,6}$`)
	versionFolder = lazy.Regexp(`^(?:.*nodejs-|node-|v)?(\d{1,6}\.\d{1,6}\.\d{1,6})$`)
	headerLine    = lazy.Regexp(`(?m)^#define NODE_(MAJOR|MINOR|PATCH)_VERSION (\d{1,6})\s*$`)
)

// headerVersion reads node_version.h.
func headerVersion(header []byte) string {
	parts := map[string]string{}
	for _, match := range headerLine().FindAllSubmatch(header, -1) {
		parts[string(match[1])] = string(match[2])
	}
	version := parts["MAJOR"] + "." + parts["MINOR"] + "." + parts["PATCH"]
	return exactVersion().FindString(version)
}
