package handoff

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"openclaw-gateway/passed"
	"openclaw-gateway/worker/handoff/intercept"
)

// Saved is the handoff of a worker that serves, for the program that takes this one's place.
type Saved struct {
	Kind   Kind             `json:"kind"`
	Pipe   *SavedPipe       `json:"pipe,omitempty"`   // on which the worker reports; nil without one
	Filter *intercept.Saved `json:"filter,omitempty"` // nil without one
}

// SavedPipe is one from which a part of a line may have been read.
type SavedPipe struct {
	FD    int    `json:"fd"`
	Begun []byte `json:"begun,omitempty"`
}

// Resume takes up a handoff that was passed on, of the same sockets.
func Resume(saved Saved, sockets []Socket, members Members) (Handoff, error) {
	var h Handoff
	switch saved.Kind {
	case ListenFDs:
		h = listenFDs(sockets)
	case Preload, Auto:
		if saved.Pipe == nil {
			return nil, fmt.Errorf("handoff %q without its reports", saved.Kind)
		}
		file, err := passed.Take(saved.Pipe.FD, "reports")
		if err != nil {
			return nil, err
		}
		// What was read already comes first, with a line begun, and then the pipe.
		reports := &Reports{file: file, lines: bufio.NewReader(file)}
		if len(saved.Pipe.Begun) > 0 {
			reports.lines = bufio.NewReader(io.MultiReader(bytes.NewReader(saved.Pipe.Begun), file))
		}
		h = &preload{reports: reports}
		if saved.Kind == Auto {
			h = whichever{&preload{reports: reports}}
		}
	case Intercept:
		if saved.Filter == nil {
			return nil, fmt.Errorf("handoff %q without its filter", saved.Kind)
		}
		return resumeIntercepted(*saved.Filter, sockets, members)
	default:
		return nil, fmt.Errorf("handoff %q cannot be taken up", saved.Kind)
	}
	if saved.Filter == nil {
		return h, nil
	}
	known := slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return s.Address.IsUnix() })
	filter, err := resumeIntercepted(*saved.Filter, known, members)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	filter.reports.seen.passBeside(h)
	return beside{h, filter}, nil
}

func resumeIntercepted(saved intercept.Saved, sockets []Socket, members Members) (*intercepted, error) {
	h := &intercepted{reports: &Reports{seen: newSight()}, sockets: sockets, order: Order{Filter: new(Filter)}}
	held, err := heldBy(sockets)
	if err != nil {
		return nil, err
	}
	var listener *os.File
	h.interceptor, listener, err = intercept.Resume(saved, intercept.Options{Sockets: held, Members: members, Tell: h.tell})
	switch {
	case err != nil:
		return nil, err
	case listener == nil:
		h.reports.seen.end()
	default:
		h.serve(listener, false)
	}
	return h, nil
}

func (h listenFDs) Suspend(context.Context) (func(), error) { return func() {}, nil }

func (h listenFDs) Save(*passed.Files) (Saved, error) { return Saved{Kind: ListenFDs}, nil }

func (p *preload) Suspend(ctx context.Context) (func(), error) { return p.reports.suspend(ctx) }

func (p *preload) Save(files *passed.Files) (saved Saved, err error) {
	saved = Saved{Kind: Preload, Pipe: &SavedPipe{Begun: slices.Concat(p.reports.begun, p.reports.buffered())}}
	saved.Pipe.FD, err = files.Add(p.reports.file)
	return saved, err
}

func (w whichever) Save(files *passed.Files) (Saved, error) {
	saved, err := w.preload.Save(files)
	saved.Kind = Auto
	return saved, err
}

func (h *intercepted) Suspend(ctx context.Context) (func(), error) {
	return inTurn(ctx, h.interceptor.Suspend, h.reports.suspend)
}

func (h *intercepted) Save(files *passed.Files) (Saved, error) {
	filter, err := h.interceptor.Save(files)
	return Saved{Kind: Intercept, Filter: &filter}, err
}

func (h beside) Suspend(ctx context.Context) (func(), error) {
	return inTurn(ctx, h.Handoff.Suspend, h.filter.Suspend)
}

func (h beside) Save(files *passed.Files) (Saved, error) {
	saved, err := h.Handoff.Save(files)
	if err != nil {
		return saved, err
	}
	filter, err := h.filter.Save(files)
	saved.Filter = filter.Filter
	return saved, err
}

func (h without) Suspend(ctx context.Context) (func(), error) {
	return inTurn(ctx, h.Handoff.Suspend, h.reports.suspend)
}

// inTurn suspends one part after the other: the first ones are who tells the last one.
func inTurn(ctx context.Context, parts ...func(context.Context) (func(), error)) (resume func(), err error) {
	var resumes []func()
	resume = func() {
		for _, resume := range slices.Backward(resumes) {
			resume()
		}
	}
	for _, suspend := range parts {
		again, err := suspend(ctx)
		if err != nil {
			resume()
			return nil, err
		}
		resumes = append(resumes, again)
	}
	return resume, nil
}

// suspend returns when whoever calls Next stands still, and has been told all that there was.
func (r *Reports) suspend(ctx context.Context) (resume func(), err error) {
	pause, interrupt, clear := &r.pause, func() { _ = r.file.SetReadDeadline(time.Unix(1, 0)) }, func() { _ = r.file.SetReadDeadline(time.Time{}) }
	if r.seen != nil {
		pause, interrupt, clear = &r.seen.pause, r.seen.wake, func() {}
	}
	resume = func() {
		clear()
		pause.End()
	}
	if err := pause.Begin(ctx, interrupt); err != nil {
		resume()
		return nil, fmt.Errorf("what the worker reports is not taken in: %w", err)
	}
	return resume, nil
}

// buffered is what has been read of the pipe, and not by Next.
func (r *Reports) buffered() []byte {
	there, _ := r.lines.Peek(r.lines.Buffered())
	return there
}
