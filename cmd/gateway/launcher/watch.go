package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"openclaw-gateway/cmd/gateway/config/watch"
)

// unwatched is why edits of a file are not noticed; the zero value: they are, or no file is watched.
type unwatched struct{ why atomic.Pointer[string] }

// because takes note of that, and logs it.
func (u *unwatched) because(err error, log *slog.Logger, file string) {
	what := fmt.Sprintf("edits of the %s are not noticed, use gateway reload", file)
	log.Error(what, "error", err)
	why := what + ": " + err.Error()
	u.why.Store(&why)
}

// tell adds it to the problems.
func (u *unwatched) tell(problems *[]string) {
	if why := u.why.Load(); why != nil {
		*problems = append(*problems, *why)
	}
}

// environmentWatch has edits of worker.environment_file noticed.
type environmentWatch struct {
	log     *slog.Logger
	edited  func() // is called with each edit, and must not wait
	changed func() // that it ends by itself is a problem of the status

	unwatched unwatched

	mu      sync.Mutex
	watcher *watch.Watcher // nil where no file is watched
	path    string
	number  int64 // of the reading that named it
}

// follow watches the file of a setting instead of the one before; "" watches none. It is called before the file is read, so
// that no edit is missed. A reading that began earlier than the one before does not count any more. Who has failed to watch it tries again.
func (w *environmentWatch) follow(number int64, setting string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if number < w.number {
		return
	}
	w.number = number
	path := strings.TrimPrefix(setting, "-")
	if strings.ContainsAny(path, `*?[\`) {
		path = "" // a pattern: which files it means is known when it is read
	}
	if path == w.path && w.unwatched.why.Load() == nil {
		return
	}
	w.path = path
	if w.watcher != nil {
		_ = w.watcher.Close()
		w.watcher = nil
	}
	w.unwatched.why.Store(nil)
	if path == "" {
		return
	}
	watcher, err := watch.New(path)
	if err != nil {
		w.unwatched.because(err, w.log, "environment file")
		return
	}
	w.watcher = watcher
	go func() {
		// It ends by Close.
		err := watcher.Run(context.Background(), func() {
			w.log.Info("the environment file was edited", "path", path)
			w.edited()
		})
		w.mu.Lock()
		defer w.mu.Unlock()
		if err != nil && w.watcher == watcher {
			w.unwatched.because(err, w.log, "environment file")
			w.changed()
		}
	}()
}
