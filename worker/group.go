package worker

import (
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// awaitGroup returns when the last process of a group that was killed has
// ended. A kill takes its time: memory and files are given back first, and the
// next generation must not meet them.
func awaitGroup(group int) error {
	if unix.Kill(-group, 0) != nil {
		return nil // nobody is in it
	}
	processes, err := procfs.AllProcs()
	if err != nil {
		return fmt.Errorf("look for what is left in process group %d: %w", group, err)
	}
	for _, process := range processes {
		if !inGroup(process, group) {
			continue
		}
		if err := awaitEnd(process, group); err != nil {
			return fmt.Errorf("wait for process %d of process group %d: %w", process.PID, group, err)
		}
	}
	return nil
}

// inGroup reports whether the process is alive and in the group.
func inGroup(process procfs.Proc, group int) bool {
	stat, err := process.Stat()
	return err == nil && stat.PGRP == group && stat.State != "Z" && stat.State != "X"
}

func awaitEnd(process procfs.Proc, group int) error {
	handle, err := unix.PidfdOpen(process.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(handle)
	// Its pid may have become another process's before it was opened.
	if !inGroup(process, group) {
		return nil
	}
	for {
		// It becomes readable when the process has ended (pidfd_open(2)).
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("poll", err)
		}
	}
}
