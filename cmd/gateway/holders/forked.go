package holders

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// With Type=idle, systemd waits for up to 5 s and 1 s more before it executes a child (IDLE_TIMEOUT_USEC and
// IDLE_TIMEOUT2_USEC in src/core/execute.c of 252).
const (
	// forkLimit is how old a user's manager's child may be; who is older only looks like one.
	forkLimit = 10 * time.Second
	// awaitLimit is how long it is waited for the children.
	awaitLimit = 8 * time.Second
)

// forked returns the manager of which a process is a child that has not been executed yet. It is the manager: up to systemd
// 252 it has everything open that the manager had, and since 254 what its unit is given, in the executor.
func (l *look) forked(ctx context.Context, h *Holder) (systemd.Manager, bool) {
	parent, err := describe(h.PPID)
	if err != nil {
		return systemd.Manager{}, false
	}
	manager, is := l.manages(ctx, &parent)
	switch {
	case !is || h.UID != parent.UID:
		return manager, false
	case manager.User && time.Since(h.Since()) > forkLimit:
		return manager, false
	case sameFile(h.PID, parent.PID):
		return manager, true
	}
	executor := filepath.Join(filepath.Dir(executable(parent.PID)), "systemd-executor")
	return manager, executable(h.PID) == executor
}

func (l *look) isForked(ctx context.Context, pid int) bool {
	h, err := describe(pid)
	if err != nil {
		return false
	}
	// The main process of a unit has become the unit's user before it is executed.
	if parent, err := proctree.UID(h.PPID); err == nil {
		h.UID = parent
	}
	_, is := l.forked(ctx, &h)
	return is
}

// isEnding reports whether a process has given up its memory, and with that its program and its command line: its files, of which
// it may have some still, are what exit(2) closes next.
func isEnding(pid int) bool {
	_, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return errors.Is(err, fs.ErrNotExist)
}

// executable is the path of a process's program, also after an update of its package.
func executable(pid int) string {
	path, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return strings.TrimSuffix(path, " (deleted)")
}

// AwaitForked waits until no address is held by nobody but managers' children that have not been executed yet: what they
// have is what their manager has closed meanwhile, and they let go of it by themselves. The kernel tells of the end of a
// socket; where it cannot, nothing is waited for. It gives up after 8 s, and when ctx ends.
func AwaitForked(ctx context.Context, addresses ...netaddr.Address) error {
	ends, err := sockdiag.WatchEnds(addresses...)
	if err != nil {
		return nil
	}
	defer ends.Close()
	deadline := time.Now().Add(awaitLimit)
	if limit, ok := ctx.Deadline(); ok && limit.Before(deadline) {
		deadline = limit
	}
	for {
		// One may have let go before the kernel was asked to tell.
		sockets, _, err := Known{}.Blocking(ctx, addresses...)
		if err != nil || !slices.ContainsFunc(sockets, Socket.closing) {
			return err
		}
		if told, err := ends.Next(deadline); !told || err != nil {
			return err
		}
	}
}

// closing reports whether nobody but managers' children that have not been executed yet has a socket.
func (s Socket) closing() bool {
	return len(s.Holders) > 0 && !slices.ContainsFunc(s.Holders, func(h Holder) bool { return !h.Forked })
}
