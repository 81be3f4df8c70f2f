package launcher

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"slices"

	"golang.org/x/sys/unix"
)

// stops are the signals that stop the launcher.
type stops struct {
	signals chan os.Signal
	asked   chan chan bool // by whoever wants to know whether one has come
	taken   chan struct{}  // closed when the first one is taken
}

// catchSignals has the signals that concern the launcher come to it, those that stop it apart from the others.
func catchSignals() (*stops, chan os.Signal) {
	s, others := &stops{make(chan os.Signal, 4), make(chan chan bool), make(chan struct{})}, make(chan os.Signal, 4)
	s.listen()
	// SIGPIPE as well: a journal that restarts must not end the launcher. It is
	// caught and not ignored because the worker would inherit that.
	signal.Notify(others, unix.SIGHUP, unix.SIGPIPE)
	return s, others
}

func (s *stops) listen() { signal.Notify(s.signals, unix.SIGTERM, unix.SIGINT) }

// come reports whether a stop has come. From then on, until listen is called, another one ends the launcher, and the worker with it, at
// once: before an execve nobody would hear of it.
func (s *stops) come() bool {
	signal.Stop(s.signals) // returns when all that have come are there, or given to the goroutine that takes them, which may not have run yet
	answer := make(chan bool)
	select {
	case s.asked <- answer:
		return <-answer
	case <-s.taken:
		return true
	}
}

// handle has the first one stop, and each one after it hurry.
func (s *stops) handle(stop func(signal string), hurry func()) {
	first := true
	for {
		select {
		case received := <-s.signals:
			if !first {
				hurry()
				continue
			}
			first = false
			close(s.taken)
			stop(unix.SignalName(received.(unix.Signal)))
		case answer := <-s.asked:
			answer <- !first || len(s.signals) > 0
		}
	}
}

// hangUp stops as a signal does.
func (s *stops) hangUp() { s.signals <- unix.SIGHUP }

// handleOthers turns SIGHUP into reload, or a stop where it comes because the terminal is gone: who closes that has ended what runs there.
func handleOthers(others <-chan os.Signal, log *slog.Logger, reload, hangUp func()) {
	for received := range others {
		switch {
		case received != unix.SIGHUP:
		case slices.ContainsFunc([]int{unix.Stdin, unix.Stdout, unix.Stderr}, hungUp):
			hangUp()
		default:
			log.Info("applying the configuration", "signal", "SIGHUP")
			reload()
		}
	}
}

// hungUp reports whether a descriptor is of a terminal that is gone: each ioctl(2) fails so (hung_up_tty_ioctl in the kernel).
func hungUp(descriptor int) bool {
	_, err := unix.IoctlGetTermios(descriptor, unix.TCGETS)
	return errors.Is(err, unix.EIO)
}
