// Package where finds out where an OpenClaw has its state and where it listens: by its command line, its environment and its own
// configuration, as OpenClaw itself does.
package where
