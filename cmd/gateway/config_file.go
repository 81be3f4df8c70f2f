package main

import (
	"cmp"
	"os"

	"openclaw-gateway/cmd/gateway/config"
)

// configFile is where the configuration comes from.
type configFile struct {
	path string // as given with --config; "" looks for it, each time anew
}

func (f configFile) name() string {
	if f.path != "" {
		return f.path
	}
	return config.Find()
}

// watched returns the file whose edits count: the one that is read, or the one
// that would be if it were made.
func (f configFile) watched() string {
	return cmp.Or(f.name(), config.DefaultPath(os.Geteuid() != 0), config.DefaultPath(false))
}

func (f configFile) load() (*config.Config, error) { return config.Load(f.name()) }
