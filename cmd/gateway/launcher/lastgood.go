package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/state"
)

// goodFile is the last configuration that worked, in the state directory.
const goodFile = state.Good

// saveGood keeps a configuration that works.
func saveGood(cfg *config.Config) error {
	path, err := state.Path(goodFile)
	if path == "" || cfg.Path == path {
		return err
	}
	if cfg.Content == nil {
		// The defaults work, so what was kept is not the last one any more.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the one before: %w", err)
		}
		return nil
	}
	return state.Write(path, cfg.Content)
}

// keptGood is the path of the configuration that was kept; "" where none was.
func keptGood() string {
	path, _ := state.Path(goodFile)
	if _, err := os.Lstat(path); err != nil {
		return ""
	}
	return path
}

// loadGood returns the configuration that was kept; nil without an error where none was.
func loadGood() (*config.Config, error) {
	path, _ := state.Path(goodFile)
	if path == "" {
		return nil, nil
	}
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return cfg, err
}
