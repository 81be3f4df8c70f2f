// Package history remembers the generations that have ended, for whoever asks and for the next launcher.
package history
