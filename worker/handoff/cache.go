package handoff

import (
	"path/filepath"
	"slices"
	"strings"
)

// respawns are programs that start themselves a second time, without the sockets, when NODE_COMPILE_CACHE is set: OpenClaw's command
// (openclaw.mjs of 2026.9.6), as it was called before, too. Its dist/index.js does not.
var respawns = []string{"openclaw.mjs", "moltbot.mjs", "clawdbot.mjs"}

// Caches reports whether a Node.js that is started directly can be told by NODE_COMPILE_CACHE where to keep what it compiles: it has not
// been told by somebody else.
func Caches(environ []string) bool {
	return !slices.ContainsFunc(environ, func(entry string) bool {
		name, value, _ := strings.Cut(entry, "=")
		return name == "NODE_COMPILE_CACHE" || name == "NODE_DISABLE_COMPILE_CACHE" && value != ""
	})
}

// Direct reports whether a command is a Node.js that is started directly, and that starts itself no second time.
func Direct(path string, argv []string, directory string) bool {
	target, err := filepath.EvalSymlinks(path)
	if err != nil || !isNode(filepath.Base(path)) && !isNode(filepath.Base(target)) {
		return false
	}
	return !slices.ContainsFunc(argv[1:], func(argument string) bool {
		if !filepath.IsAbs(argument) {
			argument = filepath.Join(directory, argument)
		}
		target, err := filepath.EvalSymlinks(argument)
		return slices.Contains(respawns, filepath.Base(argument)) || err == nil && slices.Contains(respawns, filepath.Base(target))
	})
}
