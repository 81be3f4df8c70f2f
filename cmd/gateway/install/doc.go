// Package install is "gateway install" and "gateway uninstall": the units of a scope, and a configuration to begin with.
package install
