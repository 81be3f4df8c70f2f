// Package clock waits for long without waking the program meanwhile.
package clock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Sleep returns after d, or with the error of the context when that is done. It takes a descriptor while it waits.
//
// Its timer is one of the kernel's (timerfd_create(2)), which is exact. A timer of Go's, when nothing else happens, is the limit
// of an epoll_wait(2), which the kernel may let be late by a thousandth (select_estimate_accuracy in its fs/select.c); until
// then Go's sysmon thread wakes up again and again, 62 times for 30 s (Go 1.26, Linux 6.18).
func Sleep(ctx context.Context, d time.Duration) error {
	timer, err := newTimer(d)
	if err != nil { // no descriptor is left
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	defer timer.Close()
	defer context.AfterFunc(ctx, func() { _ = timer.Close() })()
	var times [8]byte // how often it has run out
	_, _ = timer.Read(times[:])
	return ctx.Err()
}

// newTimer returns what can be read when d has passed.
func newTimer(d time.Duration) (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	timer := os.NewFile(uintptr(fd), "timer")
	once := unix.ItimerSpec{Value: unix.NsecToTimespec(max(d, 1).Nanoseconds())} // 0 would be never
	if err := unix.TimerfdSettime(fd, 0, &once, nil); err != nil {
		return nil, errors.Join(os.NewSyscallError("timerfd_settime", err), timer.Close())
	}
	return timer, nil
}
