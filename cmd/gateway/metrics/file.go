package metrics

import (
	"errors"
	"fmt"
	"io/fs"
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

// WriteFile replaces the file in one step, with mode 0644: whoever reads it has the whole text, or the one before. What is no
// file at its place, a link or a FIFO, is replaced and not written to, a directory stays; and on the way there none is followed that somebody else can choose.
func WriteFile(path string, text []byte) error {
	if !strings.HasSuffix(path, Extension) || filepath.Base(path) == Extension {
		return fmt.Errorf("%s: %w", path, ErrExtension)
	}
	directory, err := read.Directory(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: make %s, or name the directory that node_exporter reads (its --collector.textfile.directory)", err, filepath.Dir(path))
	}
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
	if info, err := root.Lstat(filepath.Base(path)); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory: name a file", path)
	}
	const mode os.FileMode = 0o644 // node_exporter is another user
	// Not renameio.WriteFile, which keeps the mode of a file that is there.
	file, err := renameio.NewPendingFile(filepath.Base(path), renameio.WithRoot(root), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer file.Cleanup()
	_, err = file.Write(text)
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
