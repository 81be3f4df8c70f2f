package api

import "runtime/debug"

// version is set by the Makefile from git describe.
var version = ""

// ProgramVersion returns the version, or what the Go toolchain knows of it.
func ProgramVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
