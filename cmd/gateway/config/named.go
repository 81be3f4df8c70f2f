package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
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

// NameAfter is Name where a file was read before, "" if none was: with that gone there is a mistake, as with the one of
// --config, and no other configuration. One that comes before it is taken.
func (f Named) NameAfter(before string) string {
	if f.Path != "" || before == "" {
		return f.Name()
	}
	return cmp.Or(find(f.Instance, before), f.Watched()) // before may be the copy of it that the launcher keeps
}

// Load reads the file; see [Load].
func (f Named) Load() (*Config, error) { return Load(f.Name()) }

// LoadAfter reads the file of NameAfter; see [Load].
func (f Named) LoadAfter(before string) (*Config, error) {
	cfg, err := Load(f.NameAfter(before))
	if before != "" && errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: put it back and reload, or write {} there if all defaults are meant", err)
	}
	return cfg, err
}
