package launcher

import (
	"context"
	"log/slog"
	"strings"

	"openclaw-gateway/cmd/gateway/config/watch"
)

// environmentWatch has edits of worker.environment_file noticed.
type environmentWatch struct {
	log    *slog.Logger
	edited func() // is called with each edit, and must not wait

	watcher *watch.Watcher // nil where no file is watched
	path    string
}

// follow watches the file of a setting instead of the one before; "" watches none. It is called before the file is read, so
// that no edit is missed.
func (w *environmentWatch) follow(setting string) {
	path := strings.TrimPrefix(setting, "-")
	if strings.ContainsAny(path, `*?[\`) {
		path = "" // a pattern: which files it means is known when it is read
	}
	if path == w.path {
		return
	}
	w.path = path
	if w.watcher != nil {
		_ = w.watcher.Close()
		w.watcher = nil
	}
	if path == "" {
		return
	}
	watcher, err := watch.New(path)
	if err != nil {
		w.log.Warn("edits of the environment file are not noticed, use gateway reload", "error", err)
		return
	}
	w.watcher = watcher
	go func() {
		// It ends by Close.
		err := watcher.Run(context.Background(), func() {
			w.log.Info("the environment file was edited", "path", path)
			w.edited()
		})
		if err != nil {
			w.log.Error("edits of the environment file are not noticed any more, use gateway reload", "error", err)
		}
	}()
}
