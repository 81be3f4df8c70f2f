package units

import (
	"fmt"
	"path/filepath"
)

// Installed returns the paths, without the root, of those of our units that lie in dir below root (see [OpenDir]), the
// socket first. A file that is not ours is left out, and named in an error that wraps [ErrForeign]; the paths are
// valid beside the error.
func Installed(root, dir string) ([]string, error) {
	texts, err := read(root, dir, Socket, Service)
	var paths []string
	for _, name := range []string{Socket, Service} {
		if texts[name] != nil {
			paths = append(paths, filepath.Join(dir, name))
		}
	}
	return paths, err
}

// Remove removes those of our units that lie in dir below root, and returns their paths without the root. What is not
// ours stays, and is named in the error as [Installed] does; the paths are valid beside the error.
func Remove(root, dir string) ([]string, error) {
	paths, foreign := Installed(root, dir)
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
