package launcher

import (
	"context"
	"strings"

	"openclaw-gateway/cmd/gateway/config/watch"
)

// watchFile applies each edit of the configuration file.
func (l *launcher) watchFile(ctx context.Context, edits *watch.Watcher) {
	err := edits.Run(ctx, func() {
		l.log.Info("the configuration file was edited", "path", l.files.Name())
		// The outcome is in the log, and the next edit must not wait for it.
		go func() { _ = l.reload(ctx) }()
	})
	if err != nil && ctx.Err() == nil {
		l.log.Error("edits of the configuration are not noticed any more, use gateway reload", "error", err)
	}
}

// forgetEnvironment ends the watch of worker.environment_file.
func (l *launcher) forgetEnvironment() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchEnvironment("")
}

// watchEnvironment has edits of worker.environment_file applied as well. It is
// called with the lock, before the file is read, so that none is missed; "" ends
// it.
func (l *launcher) watchEnvironment(setting string) {
	path := strings.TrimPrefix(setting, "-")
	if strings.ContainsAny(path, `*?[\`) {
		path = "" // a pattern: which files it means is known when it is read
	}
	if path == l.environmentFile {
		return
	}
	l.environmentFile = path
	if l.environment != nil {
		_ = l.environment.Close()
		l.environment = nil
	}
	if path == "" {
		return
	}
	edits, err := watch.New(path)
	if err != nil {
		l.log.Warn("edits of the environment file are not noticed, use gateway reload", "error", err)
		return
	}
	l.environment = edits
	go func() {
		ctx := context.Background() // it ends by Close
		err := edits.Run(ctx, func() {
			l.log.Info("the environment file was edited", "path", path)
			go func() { _ = l.reload(ctx) }()
		})
		if err != nil {
			l.log.Error("edits of the environment file are not noticed any more, use gateway reload", "error", err)
		}
	}()
}
