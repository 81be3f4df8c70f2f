package config

import (
	"cmp"
	"os"

	"openclaw-gateway/units/instance"
)

// Named is where the configuration comes from.
type Named struct {
	Path     string        // as given with --config; "" looks for it, each time anew
	Instance instance.Name // whose it is
}

// Name is the path of the file that is read now; "" where there is none.
func (f Named) Name() string {
	if f.Path != "" {
		return f.Path
	}
	return Find(f.Instance)
}

// Watched returns the file whose edits count: the one that is read, or the one
// that would be if it were made.
func (f Named) Watched() string {
	return cmp.Or(f.Name(), DefaultPath(os.Geteuid() != 0, f.Instance), DefaultPath(false, f.Instance))
}

// Load reads it; see [Load].
func (f Named) Load() (*Config, error) { return Load(f.Name()) }
