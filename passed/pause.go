package passed

import (
	"context"
	"sync"
)

// Pause is where a reader stands still between two messages, while everything that it has not read yet is passed on.
type Pause struct {
	mu    sync.Mutex
	over  chan struct{} // closed when it may go on; nil: there is no pause
	there chan struct{} // closed when the reader stands
	gone  bool          // there is no reader any more
}

// Begin returns when the reader stands still, or has ended. interrupt has its read return. Whoever has begun a pause ends it, also where
// the context was done first.
func (p *Pause) Begin(ctx context.Context, interrupt func()) error {
	p.mu.Lock()
	p.over, p.there = make(chan struct{}), make(chan struct{})
	there := p.there
	if p.gone {
		close(there)
	}
	p.mu.Unlock()
	interrupt()
	select {
	case <-there:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// End lets the reader go on.
func (p *Pause) End() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.over)
	p.over = nil
}

// Point is for the reader when it has nothing in hand: it returns when there is no pause, and reports whether there was one.
func (p *Pause) Point() bool {
	p.mu.Lock()
	over := p.over
	if over != nil {
		close(p.there)
	}
	p.mu.Unlock()
	if over == nil {
		return false
	}
	<-over
	return true
}

// Wanted reports whether the reader is to stand still.
func (p *Pause) Wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over != nil
}

// Leave says that there is no reader any more.
func (p *Pause) Leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone && p.over != nil {
		close(p.there)
	}
	p.gone = true
}
