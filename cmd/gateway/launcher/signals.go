package launcher

import (
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// catchSignals has the signals that concern the launcher come to it.
func catchSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 4)
	// SIGPIPE as well: a journal that restarts must not end the launcher. It is
	// caught and not ignored because the worker would inherit that.
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	return signals
}

// handleSignals turns signals into calls: SIGHUP into reload, the first SIGTERM or SIGINT into stop, and each one after it
// into hurry. It does so until the process ends: one that comes while the launcher ends must not kill it.
func handleSignals(signals <-chan os.Signal, log *slog.Logger, reload, stop, hurry func()) {
	go func() {
		stopping := false
		for received := range signals {
			switch {
			case received == unix.SIGPIPE:
			case received == unix.SIGHUP:
				log.Info("applying the configuration", "signal", "SIGHUP")
				reload()
			case stopping:
				hurry()
			default:
				log.Info("stopping", "signal", unix.SignalName(received.(unix.Signal)))
				stopping = true
				stop()
			}
		}
	}()
}
