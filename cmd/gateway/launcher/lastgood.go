package launcher

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"openclaw-gateway/cmd/gateway/config"
)

// lastGood returns where the last configuration that worked is kept for the next
// life of the launcher: in the unit's state directory, "" without one.
func lastGood() string {
	directory, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if directory == "" {
		return ""
	}
	return filepath.Join(directory, "last-good.yaml")
}

// remember keeps the configuration whose worker has become ready last.
func (l *launcher) remember() {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	path, e := lastGood(), l.good.Load()
	if path == "" || e.cfg.Path == path {
		return
	}
	if e.cfg.Content == nil {
		// The defaults work, so what was kept is not the last one any more.
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.log.Warn("cannot remove the configuration that was kept for the next start of the launcher", "error", err)
		}
		return
	}
	// It may hold secrets, in worker.environment: no byte of it in /tmp, where renameio writes first if it can.
	if err := renameio.WriteFile(path, e.cfg.Content, 0o600, renameio.WithTempDir(filepath.Dir(path))); err != nil {
		l.log.Warn("cannot keep the configuration for the next start of the launcher", "error", err)
	}
}

// recall returns the configuration that was kept, if it still can be used.
func (l *launcher) recall() *edition {
	path := lastGood()
	if path == "" {
		return nil
	}
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		remembered, unfit := l.prepare(cfg)
		if err = unfit; err == nil {
			return remembered
		}
	}
	l.log.Warn("the last configuration that worked cannot be used any more", "path", path, "error", err)
	return nil
}
