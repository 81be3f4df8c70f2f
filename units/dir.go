package units

import (
	"fmt"
	"os"
	"path/filepath"
)

// OpenDir opens the directory dir of the system below root, and makes it (mode 0755) if create is set. An empty root is
// the running system: there the directories on the way may be symbolic links, as they may for systemd itself. Below any
// other root no link leads out of it, so that an image in the making never changes the machine on which it is made.
// The error wraps [fs.ErrNotExist] if the directory is not there and create is not set.
func OpenDir(root, dir string, create bool) (*os.Root, error) {
	if !filepath.IsAbs(dir) {
		return nil, fmt.Errorf("open directory %q: the path is not absolute", dir)
	}
	if root == "" {
		if create {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return nil, fmt.Errorf("make directory: %w", err)
			}
		}
		opened, err := os.OpenRoot(dir)
		if err != nil {
			return nil, fmt.Errorf("open directory: %w", err)
		}
		return opened, nil
	}

	outer, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("open root directory: %w", err)
	}
	defer outer.Close()
	rel := filepath.Clean("." + dir)
	if create {
		if err := outer.MkdirAll(rel, 0o755); err != nil {
			return nil, fmt.Errorf("make directory below %s: %w", root, err)
		}
	}
	opened, err := outer.OpenRoot(rel)
	if err != nil {
		return nil, fmt.Errorf("open directory below %s: %w", root, err)
	}
	return opened, nil
}
