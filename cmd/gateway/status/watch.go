package status

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/say"
)

// refreshEvery is how often a terminal gets the numbers that have no event:
// connections and queue. Nobody is asked that often where nobody looks.
const refreshEvery = time.Second

// seen is a status of one of the targets.
type seen struct {
	index int
	View
}

// Watch prints the status of the targets again and again, until the context
// is done. What cannot be followed is said on stderr.
func Watch(ctx context.Context, w, stderr io.Writer, targets []client.Target, format Format) error {
	screen := say.IsTerminal(w) && !format.JSON
	changes := make(chan seen)
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, t := range targets {
		watching.Go(func() {
			watchOne(ctx, t, stderr, screen, func(s View) {
				select {
				case changes <- seen{i, s}:
				case <-ctx.Done():
				}
			})
		})
	}
	latest, known, drawn := make([]View, len(targets)), make([]bool, len(targets)), ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case change := <-changes:
			if known[change.index] && !screen && reflect.DeepEqual(latest[change.index].WithoutCounts(), change.WithoutCounts()) {
				continue
			}
			latest[change.index], known[change.index] = change.View, true
		}
		if slices.Contains(known, false) {
			continue // a moment later the others are there too
		}
		var err error
		switch {
		case format.JSON:
			err = say.JSON(w, tell(latest, format.One), "")
		case screen:
			if text := statusText(latest, styleFor(w, format)); text != drawn {
				drawn = text
				_, err = io.WriteString(w, say.Redrawn(text))
			}
		default:
			_, err = fmt.Fprintf(w, "%s\n%s\n", time.Now().Format(time.DateTime), statusText(latest, styleFor(w, format)))
		}
		if err != nil {
			return err
		}
	}
}

// watchOne sends the status now and with each change: the launcher tells of its own,
// the file system of its end and of its return, systemd of the units. refresh sends it each second
// besides; without it, stderr gets a line where the launcher does not tell.
func watchOne(ctx context.Context, t client.Target, stderr io.Writer, refresh bool, send func(View)) {
	arrivals, err := newArrivals(t.Control)
	if err != nil {
		s := Of(ctx, t)
		s.Notes = append(s.Notes, fmt.Sprintf("the return of a launcher will not be noticed: %v", err))
		send(s)
	} else {
		defer arrivals.Close()
	}
	// The units go on changing when the launcher has ended. Where the manager cannot be asked, the look says so.
	changes, _ := t.Manager().Changes(ctx, t.Service(), t.Socket())
	for ctx.Err() == nil {
		err := follow(ctx, t, refresh, send)
		if ctx.Err() != nil {
			return
		}
		if !refresh && !errors.Is(err, client.ErrNotRunning) && !errors.Is(err, client.ErrSilent) {
			fmt.Fprintf(stderr, "gateway: of the launcher of the %s scope only the end and the return will be shown, and no change: %v\n", t.Scope, err)
		}
		t = t.Refreshed(ctx)
		send(withoutLauncher(ctx, t, err))
		arrivals.await(ctx, refresh, changes)
	}
}

// follow sends what the launcher tells, until it ends or cannot be asked; the
// error says why.
func follow(ctx context.Context, t client.Target, refresh bool, send func(View)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	told := make(chan api.Status)
	ended := make(chan error, 1)
	go func() { ended <- t.Stream(ctx, told) }()
	// One that hangs may go on later; so the question stays.
	silent := time.NewTimer(client.AnswerLimit)
	defer silent.Stop()
	var tick <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return err
		case <-silent.C:
			send(withoutLauncher(ctx, t.Refreshed(ctx), t.Unanswered(context.DeadlineExceeded)))
		case status := <-told:
			silent.Stop()
			s := View{Status: status}
			if refresh && tick == nil {
				ticker := time.NewTicker(refreshEvery)
				defer ticker.Stop()
				tick = ticker.C
			}
			if s.Launcher.Holder == api.FromSystemd && t.Unit.MainPID != s.Launcher.PID {
				t = t.Refreshed(ctx) // it has come since
			}
			complete(ctx, t, &s)
			send(s)
		case <-tick:
			// Also to see that it hangs.
			send(Of(ctx, t.Refreshed(ctx)))
		}
	}
}

// arrivals notices that a control socket is made or removed, also while its
// directory is not there: systemd makes and removes that with the service.
type arrivals struct {
	*fsnotify.Watcher
	path string
}

func newArrivals(control string) (*arrivals, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	directory := filepath.Dir(control)
	if err := watcher.Add(filepath.Dir(directory)); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	// Where it is not there yet, or is another user's, its parent has to do.
	_ = watcher.Add(directory)
	return &arrivals{Watcher: watcher, path: control}, nil
}

// await returns when something has happened to the control socket, to its directory or to the units, or, with refresh,
// after a second.
func (a *arrivals) await(ctx context.Context, refresh bool, changes <-chan struct{}) {
	var events <-chan fsnotify.Event
	var failures <-chan error
	if a != nil {
		events, failures = a.Events, a.Errors
	}
	var tick <-chan time.Time
	if refresh {
		timer := time.NewTimer(refreshEvery)
		defer timer.Stop()
		tick = timer.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
			return
		case <-failures: // events were lost, so look
			return
		case _, more := <-changes:
			if more {
				return
			}
			changes = nil
		case event := <-events:
			switch event.Name {
			case filepath.Dir(a.path):
				if event.Has(fsnotify.Create) {
					// It may hold the socket already, which whoever called looks for now.
					_ = a.Add(event.Name)
				}
				return
			case a.path:
				// Its mode is set when it listens; before, nobody answers.
				return
			}
		}
	}
}
