package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/inotify"
)

const (
	// quiet is for how long nothing may happen to the file before an edit of it
	// counts as ended. It joins what belongs to one save: a vim that keeps a backup
	// renames, creates, writes and changes the mode within 2 ms (measured with vim
	// 9.0), a shell that writes with > and then >> takes a few more. A person does
	// not feel it as a delay.
	quiet = 100 * time.Millisecond

	// limit is after what time an edit is reported although others keep following.
	limit = time.Second
)

// Watcher notices edits of one file. It must not be copied.
type Watcher struct {
	path   string // absolute, but not cleaned: a ".." may follow a symbolic link
	queue  *inotify.Queue
	closed atomic.Bool

	chain       chain
	edit        edit
	pending     bool      // an edit has ended and the file has not been looked at since
	first, last time.Time // when the first and the last of the pending edits ended
	seen        []byte    // the fingerprint of what was there last; nil: not known
}

// edit says how far the edit is that was begun last.
type edit int

const (
	complete edit = iota
	begun         // the name is new: a file about to be written, or a link, which is complete
	writing       // written to, and not closed yet
)

// New begins to watch the file at path, which need not exist. What is in it now
// counts as seen: call New first and read the file then, so that no edit is
// missed. Edits from now on are kept by the kernel until Run is called.
//
// It takes one inotify instance and one watch for each directory on the way; the
// limits are in /proc/sys/fs/inotify, see inotify(7). A directory on the way that
// may be passed but not read is left out; it is an error if it is the one that
// holds the file.
func New(path string) (*Watcher, error) {
	if path == "" {
		return nil, errors.New("watch a file: the path is empty")
	}
	if path[0] != '/' {
		directory, err := os.Getwd()
		if err != nil {
			return nil, fmt.Errorf("watch %s: the working directory is not known: %w", path, err)
		}
		path = directory + "/" + path
	}
	queue, err := inotify.New()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	w := &Watcher{path: path, queue: queue}
	if err := w.walk(); err != nil {
		return nil, errors.Join(fmt.Errorf("watch %s: %w", path, err), queue.Close())
	}
	// After the walk, so that an event follows every change of what is read here.
	w.seen, _, err = fingerprint(path)
	if err != nil && !missing(err) {
		w.seen = fingerprintOf(err)
	}
	return w, nil
}

// Run calls changed each time a complete edit may have given the file another
// content, until ctx is done or Close is called; then it returns nil. Any other
// end is an error, after which nothing is noticed any more. It may be called once.
//
// The calls come one at a time, from the goroutine of Run. At least one begins
// after the last edit, so whoever reads the file in changed ends up with its last
// content; it may find a next edit half done, and is called again then. Removing
// the file is not an edit; making it again with the same content is none either. A
// file that has been emptied is reported like any other, and so is one that can no
// longer be read.
func (w *Watcher) Run(ctx context.Context, changed func()) error {
	stop := context.AfterFunc(ctx, func() { _ = w.Close() })
	defer stop()
	for {
		err := w.await(changed)
		switch {
		case w.closed.Load():
			return nil // the error of a closed descriptor is not os.ErrClosed everywhere
		case err != nil:
			return fmt.Errorf("watch %s: %w", w.path, err)
		}
	}
}

// Close ends Run, which may be in the middle of a call, and frees the inotify
// instance. A second Close does nothing.
func (w *Watcher) Close() error {
	if w.closed.Swap(true) {
		return nil
	}
	if err := w.queue.Close(); err != nil {
		return fmt.Errorf("watch %s: close: %w", w.path, err)
	}
	return nil
}

// await takes what happens next: events, or the end of the quiet period.
func (w *Watcher) await(changed func()) error {
	if err := w.queue.SetDeadline(w.due()); err != nil {
		return err
	}
	_, err := w.take(true)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return w.look(changed)
	}
	return err
}

// due returns when to look at the file: the zero time, which is never, if there is
// no reason to or it is being written.
func (w *Watcher) due() time.Time {
	if !w.pending || w.edit == writing {
		return time.Time{}
	}
	calm, latest := w.last.Add(quiet), w.first.Add(limit)
	if latest.Before(calm) {
		return latest
	}
	return calm
}

// look calls changed if the file has another content than the last one seen.
func (w *Watcher) look(changed func()) error {
	// The poller reports a deadline without a look at the descriptor, and the next
	// edit may have begun.
	if _, err := w.drain(); err != nil {
		return err
	}
	if due := w.due(); due.IsZero() || time.Now().Before(due) {
		return nil
	}
	w.pending = false
	sum, size, err := fingerprint(w.path)
	switch {
	case missing(err):
		return nil
	case err != nil:
		sum = fingerprintOf(err)
	case w.edit == begun && size == 0:
		return nil // made, and not written yet
	}
	if bytes.Equal(sum, w.seen) {
		return nil
	}
	w.seen = sum
	changed()
	// What changed read may be an edit that began after the look. Should the file
	// get its former content again before the next look, that must not pass for
	// the content that changed saw.
	another, err := w.drain()
	if another {
		w.seen = nil
	}
	return err
}

// drain takes the events that are there without waiting, and says whether one of
// them may have changed the content.
func (w *Watcher) drain() (bool, error) {
	if err := w.queue.SetDeadline(time.Time{}); err != nil {
		return false, err
	}
	another := false
	for {
		one, err := w.take(false)
		another = another || one
		switch {
		case errors.Is(err, unix.EAGAIN):
			return another, nil
		case err != nil:
			return another, err
		}
	}
}

// take reads events, waiting for them if need be, and says whether one of them may
// have changed the content. Without waiting, the error is EAGAIN if there are none.
func (w *Watcher) take(wait bool) (bool, error) {
	events, err := w.queue.Read(wait)
	another := false
	for _, e := range events {
		one, err := w.handle(e)
		if err != nil {
			return another, err
		}
		another = another || one
	}
	return another, err
}

// handle says whether the event may have changed the content of the file.
func (w *Watcher) handle(e inotify.Event) (bool, error) {
	if e.Mask&unix.IN_Q_OVERFLOW != 0 {
		// Any event may be among the lost ones, the end of an edit as well.
		w.edit = complete
		w.touch()
		return true, w.walk()
	}
	switch {
	case !w.chain.concerns(e):
		return false, nil
	case e.Mask&unix.IN_MODIFY != 0:
		w.edit = writing
		return true, nil
	case e.Mask&unix.IN_CLOSE_WRITE != 0:
		w.edit = complete
		w.touch()
		return true, nil
	case e.Mask&unix.IN_ATTRIB != 0:
		// A file or a directory may have become readable.
		w.touch()
		return false, w.walk()
	case e.Mask&(unix.IN_CREATE|unix.IN_ISDIR) == unix.IN_CREATE:
		w.edit = begun
	case e.Mask&unix.IN_IGNORED == 0:
		// Moved or removed as a whole. Also where a directory was: an end of an edit
		// below it may have gone unseen.
		w.edit = complete
	}
	// At once, not after the last event: those that follow may be of a file that is
	// no longer the one at path, and must not count.
	w.touch()
	return true, w.walk()
}

// touch notes that the file may have another content.
func (w *Watcher) touch() {
	w.last = time.Now()
	if !w.pending {
		w.pending, w.first = true, w.last
	}
}

// missing says whether the error is that there is no such file, or only a symbolic
// link that leads to none.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}
