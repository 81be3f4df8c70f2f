package units

import (
	"fmt"
	"path/filepath"

	"openclaw-gateway/units/instance"
)

// Installed returns the paths, without the root, of those of our units of an instance that lie in dir below root (see [OpenDir]), the
// socket first. A file that is not ours is left out, and named in an error that wraps [ErrForeign]; the paths are
// valid beside the error.
func Installed(root, dir string, name instance.Name) ([]string, error) {
	texts, err := read(root, dir, name.Socket(), name.Service())
	var paths []string
	for _, unit := range []string{name.Socket(), name.Service()} {
		if texts[unit] != nil {
			paths = append(paths, filepath.Join(dir, unit))
		}
	}
	return paths, err
}

// Remove removes those of our units of an instance that lie in dir below root, and returns their paths without the root. What is not
// ours stays, and is named in the error as [Installed] does; the paths are valid beside the error.
func Remove(root, dir string, name instance.Name) ([]string, error) {
	paths, foreign := Installed(root, dir, name)
	if len(paths) == 0 {
		return nil, foreign
	}
	opened, err := OpenDir(root, dir, false)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	for i, path := range paths {
		if err := opened.Remove(filepath.Base(path)); err != nil {
			return paths[:i], fmt.Errorf("remove %s: %w", path, err)
		}
	}
	return paths, foreign
}
