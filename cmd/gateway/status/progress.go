package status

import (
	"context"
	"fmt"
	"io"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener/sockdiag"
)

// patience is how long somebody waits before he is told what for.
const patience = time.Second

// Progress writes, until the context is done, what a launcher is about that keeps somebody waiting: for how long at the
// most, how many connections are open still, and which command ends it now.
func Progress(ctx context.Context, w io.Writer, t client.Target, now string) {
	told, last := make(chan api.Status), ""
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// What it cannot tell is told by the outcome.
	go func() { _ = t.Stream(ctx, told) }()
	wait := time.NewTimer(patience)
	defer wait.Stop()
	var latest api.Status
	for waited := false; ; {
		select {
		case <-ctx.Done():
			return
		case latest = <-told:
		case <-wait.C:
			waited = true
		}
		if text := progressText(latest, now); waited && text != last {
			last = text
			fmt.Fprintln(w, say.Wrap("gateway: "+text, 0, 2, say.Columns(w)))
		}
	}
}

func progressText(s api.Status, now string) string {
	worker := s.Worker
	if worker.State == "" {
		return "waiting for the launcher"
	}
	text := fmt.Sprintf("generation %d is %s", worker.Generation, worker.State)
	if s.Successor != nil && s.Successor.Purpose != api.ForStandby {
		text = fmt.Sprintf("generation %d is %s beside generation %d", s.Successor.Generation, s.Successor.State, worker.Generation)
	} else if len(s.Leaving) > 0 {
		text += fmt.Sprintf(", and generation %d is leaving", s.Leaving[0].Generation)
	}
	if worker.WaitsUntil != nil {
		text += say.Until(*worker.WaitsUntil)
	}
	if worker.State != api.StateStopping {
		return text
	}
	open := 0
	for _, socket := range s.Sockets {
		address, err := socket.At()
		if err != nil {
			continue
		}
		if n, err := sockdiag.Connections(address); err == nil {
			open += n
		}
	}
	return fmt.Sprintf("%s; %s open; `%s` ends it now", text, say.Count(open, "connection"), now)
}
