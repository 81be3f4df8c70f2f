package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"openclaw-gateway/cmd/gateway/config"
)

// goodPath returns where the last configuration that worked is kept for the next
// life of the launcher: in the unit's state directory, "" without one.
func goodPath() string {
	directory, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if directory == "" {
		return ""
	}
	return filepath.Join(directory, "last-good.yaml")
}

// saveGood keeps a configuration that works.
func saveGood(cfg *config.Config) error {
	path := goodPath()
	if path == "" || cfg.Path == path {
		return nil
	}
	if cfg.Content == nil {
		// The defaults work, so what was kept is not the last one any more.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the one before: %w", err)
		}
		return nil
	}
	// It may hold secrets, in worker.environment: no byte of it in /tmp, where renameio writes first if it can.
	return renameio.WriteFile(path, cfg.Content, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// loadGood returns the configuration that was kept; nil without an error where none was.
func loadGood() (*config.Config, error) {
	path := goodPath()
	if path == "" {
		return nil, nil
	}
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return cfg, err
}
