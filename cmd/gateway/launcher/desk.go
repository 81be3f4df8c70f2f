package launcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"openclaw-gateway/listener/frontdesk"
	"openclaw-gateway/worker"
	"openclaw-gateway/worker/ends"
)

// desk is where the launcher answers the clients itself while no worker can.
type desk struct {
	held     *heldSockets
	log      *slog.Logger
	observed *atomic.Pointer[worker.Status] // what is told of the worker
	last     atomic.Pointer[frontdesk.Desk] // that was closed; nil when there was none
}

// open lets the launcher answer the clients.
func (d *desk) open() (closeDesk func()) {
	// They stay while the desk is open: it closes before a generation starts.
	sockets, _ := d.held.current()
	opened, err := frontdesk.Open(sockets, d.notice, d.log)
	if err != nil {
		d.log.Error("cannot open the front desk, clients wait in the queue", "error", err)
		return func() {}
	}
	d.log.Info("front desk opened: clients are answered with 503")
	return func() {
		opened.Close()
		d.last.Store(opened)
		d.log.Info("front desk closed: clients wait for the next generation")
	}
}

// drainLimit is how long the launcher's end waits for clients at the front desk.
const drainLimit = 2 * time.Second

// drain lets clients have their answer whom the front desk had accepted when
// the launcher was told to end.
func (d *desk) drain(ctx context.Context) {
	if last := d.last.Load(); last != nil {
		ctx, cancel := context.WithTimeout(ctx, drainLimit)
		defer cancel()
		last.Drain(ctx)
	}
}

// notice is what the front desk tells. The reason stays in the log and the
// status: it may name files and commands, and a client has not shown who it is.
func (d *desk) notice() frontdesk.Notice {
	status := d.observed.Load()
	notice := frontdesk.Notice{Since: status.Since, Next: status.NextStart}
	switch exit := status.LastExit; {
	case exit == nil:
		notice.Problem = "the server behind this port cannot be started"
	case exit.Reason == ends.ReasonUnready:
		notice.Problem = fmt.Sprintf("generation %d of the server behind this port did not serve", exit.Generation)
	default:
		notice.Problem = fmt.Sprintf("generation %d of the server behind this port ended: %s", exit.Generation, exit)
	}
	return notice
}
