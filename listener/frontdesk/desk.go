package frontdesk

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

// bounds is what a desk grants its clients and itself.
type bounds struct {
	// connections is how many clients are talked to at a time; the others
	// wait in the kernel's queue.
	connections int
	// header is how long a client may take to send the request's header,
	// request how long for all of it.
	header, request time.Duration
	// retryMin and retryMax are the first and the longest wait before the next
	// attempt when clients cannot be accepted.
	retryMin, retryMax time.Duration
}

var defaults = bounds{
	connections: 1024, // about 20 KB each
	header:      3 * time.Second,
	request:     6 * time.Second,
	retryMin:    5 * time.Millisecond, // both as in net/http
	retryMax:    time.Second,
}

// maxHeaderBytes is the longest header that Node.js takes by default: what a
// worker would have understood, the desk does.
const maxHeaderBytes = 16 << 10

// Desk is an open front desk.
type Desk struct {
	acceptor *acceptor
	served   chan struct{}
}

// Open begins to answer the clients of the sockets. For each answer it calls
// notice, from several goroutines at once. Nobody else may accept on the sockets
// until Close has returned. The error, that a descriptor could not be had, leaves
// the sockets as they were.
func Open(sockets listener.Set, notice func() Notice, log *slog.Logger) (*Desk, error) {
	limits := defaults
	var descriptors unix.Rlimit
	// The launcher needs descriptors to start a worker, too.
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &descriptors); err == nil {
		limits.connections = int(max(1, min(uint64(limits.connections), descriptors.Cur/2)))
	}
	return open(sockets, notice, log, limits)
}

func open(sockets listener.Set, notice func() Notice, log *slog.Logger, limits bounds) (*Desk, error) {
	ctx, cancel := context.WithCancel(context.Background())
	watch, err := sockets.Watch(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	desk := &Desk{
		acceptor: &acceptor{
			ctx: ctx, cancel: cancel, watch: watch, log: log, limits: limits,
			places: make(chan struct{}, limits.connections),
		},
		served: make(chan struct{}),
	}
	server := &http.Server{
		Handler: answer(notice),
		// Otherwise "OPTIONS *" is answered with 200.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            limits.header,
		ReadTimeout:                  limits.request,
		WriteTimeout:                 limits.request,
		MaxHeaderBytes:               maxHeaderBytes,
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(desk.served)
		defer watch.Close()
		// It ends when Accept does, and Accept when the desk is closed.
		_ = server.Serve(desk.acceptor)
	}()
	return desk, nil
}

// Close returns, at once, when nothing is accepted any more: clients that come
// from then on are the next worker's. Those that were accepted still get their
// answer; the last connection is gone 7 s later, also of a client that says
// nothing. Closing again does nothing.
func (d *Desk) Close() {
	// Not http.Server's Shutdown: it hangs up on a client whose request arrives
	// after it was called. Each connection has its own end in the time-outs.
	_ = d.acceptor.Close()
	<-d.served
}

// Drain returns when the last client that was accepted has its answer or has gone,
// or when the context is done. The desk is closed before.
func (d *Desk) Drain(ctx context.Context) {
	// Nobody is there when all places can be had.
	for range cap(d.acceptor.places) {
		select {
		case d.acceptor.places <- struct{}{}:
			defer func() { <-d.acceptor.places }()
		case <-ctx.Done():
			return
		}
	}
}
