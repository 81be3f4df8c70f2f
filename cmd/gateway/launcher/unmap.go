package launcher

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker"
)

// unmapping is observe, after which the program is unmapped for each generation that has become ready.
func unmapping(log *slog.Logger, observe func(worker.Status)) func(worker.Status) {
	last := 0 // of those
	return func(status worker.Status) {
		observe(status)
		if status.State != worker.Ready || status.Generation == last {
			return
		}
		last = status.Generation
		go func() {
			if err := unmapProgram(); err != nil {
				log.Debug("the launcher takes more memory than it needs", "error", err)
			}
		}()
	}
}

// unmapProgram has the kernel unmap the code and the constants of the program. A start touches nearly every part of them, if only
// to initialise a package, and all of that would stay mapped, which is most of the launcher's memory. What is needed from here on
// is mapped again, from the kernel's cache of the file. A mapping with a page that is not the file's any more (one that was
// relocated, or has a debugger's breakpoint) is left as it is.
func unmapProgram() error {
	smaps, err := os.ReadFile("/proc/self/smaps") // proc_pid_smaps(5)
	if err != nil {
		return err
	}
	var mapping []string // range, permissions, offset, device, inode, file
	for line := range strings.Lines(string(smaps)) {
		fields := strings.Fields(line)
		switch {
		case !strings.HasSuffix(fields[0], ":"):
			mapping = fields
			continue
		case fields[0] != "Anonymous:" || fields[1] != "0" || strings.Contains(mapping[1], "w") || mapping[4] == "0":
			continue
		}
		from, to, _ := strings.Cut(mapping[0], "-")
		start, err := strconv.ParseUint(from, 16, 64)
		if err != nil {
			return err
		}
		end, err := strconv.ParseUint(to, 16, 64)
		if err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap %s: %w", mapping[0], errno)
		}
	}
	return nil
}
