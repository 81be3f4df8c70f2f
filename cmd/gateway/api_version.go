package main

import "runtime/debug"

// version is set by the Makefile from git describe.
var version = ""

// programVersion returns the version, or what the Go toolchain knows of it.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
