package metrics

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"openclaw-gateway/cmd/gateway/read"
)

// Extension is that of the only files that node_exporter reads.
const Extension = ".prom"

// ErrExtension says that a file has another one.
var ErrExtension = errors.New("node_exporter reads no file that does not end in " + Extension)

// WriteFile replaces the file in one step, with mode 0644: whoever reads it has the whole text, or the one before. A link at
// its place is replaced, and on the way there none is followed that somebody else can choose.
func WriteFile(path string, text []byte) error {
	if !strings.HasSuffix(path, Extension) || filepath.Base(path) == Extension {
		return fmt.Errorf("%s: %w", path, ErrExtension)
	}
	directory, err := read.Directory(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer directory.Close()
	// The very directory that was looked at.
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", directory.Fd()))
	if err != nil {
		return fmt.Errorf("open the directory of %s: %w", path, err)
	}
	defer root.Close()
	const mode os.FileMode = 0o644 // node_exporter is another user
	err = renameio.WriteFile(filepath.Base(path), text, mode, renameio.WithRoot(root), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
