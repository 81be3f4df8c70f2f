package launcher

import (
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// catchSignals has the signals that concern the launcher come to it, those that stop it apart from the others.
func catchSignals() (stops, others chan os.Signal) {
	stops, others = make(chan os.Signal, 4), make(chan os.Signal, 4)
	listenForStops(stops)
	// SIGPIPE as well: a journal that restarts must not end the launcher. It is
	// caught and not ignored because the worker would inherit that.
	signal.Notify(others, unix.SIGHUP, unix.SIGPIPE)
	return stops, others
}

func listenForStops(stops chan<- os.Signal) { signal.Notify(stops, unix.SIGTERM, unix.SIGINT) }

// stopsCome reports whether a stop has come that nobody has taken yet. From then on another one ends the launcher, and the worker with
// it, at once: before an execve nobody would hear of it.
func stopsCome(stops chan os.Signal) bool {
	signal.Stop(stops) // returns when all that have come are there
	return len(stops) > 0
}

// handleSignals turns signals into calls: SIGHUP into reload, the first SIGTERM or SIGINT into stop, and each one after it
// into hurry. It does so until the process ends: one that comes while the launcher ends must not kill it.
func handleSignals(stops, others <-chan os.Signal, log *slog.Logger, reload func(), stop func(signal string), hurry func()) {
	go func() {
		stop(unix.SignalName((<-stops).(unix.Signal)))
		for range stops {
			hurry()
		}
	}()
	go func() {
		for received := range others {
			if received == unix.SIGHUP {
				log.Info("applying the configuration", "signal", "SIGHUP")
				reload()
			}
		}
	}()
}
