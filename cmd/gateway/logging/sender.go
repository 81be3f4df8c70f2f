package logging

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// journalPath is where journald takes entries (systemd-journald.service(8)).
const journalPath = "/run/systemd/journal/socket"

// patience is how long a line of the log may wait for a journal whose queue is full.
const patience = 100 * time.Millisecond

// sender sends entries to the journal. Go-systemd's waits for as long as the journal has no room, with a lock for which all others who log
// wait, and retries without a pause: each try that fails frees its own buffer, which the kernel tells as room (sock_wfree).
type sender struct {
	socket int
	to     unix.SockaddrUnix
	lost   atomic.Int64 // entries since the last one that was taken
}

func newSender(path string) *sender {
	// A blocking one: the kernel wakes who waits in sendmsg(2). Where there is none each entry fails.
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		limit := unix.NsecToTimeval(int64(patience))
		err = unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit)
	}
	if err != nil {
		socket = -1
	}
	return &sender{socket: socket, to: unix.SockaddrUnix{Name: path}}
}

// send sends an entry (systemd.io/JOURNAL_NATIVE_PROTOCOL), and fails with EAGAIN where the journal has no room for it, which it may
// wait for.
func (s *sender) send(fields map[string]string, wait bool) error {
	var entry []byte
	for name, value := range fields {
		if strings.Contains(value, "\n") {
			entry = binary.LittleEndian.AppendUint64(append(entry, name+"\n"...), uint64(len(value)))
			entry = append(append(entry, value...), '\n')
		} else {
			entry = fmt.Appendf(entry, "%s=%s\n", name, value)
		}
	}
	err := s.sendMessage(entry, nil, wait)
	if !errors.Is(err, unix.EMSGSIZE) && !errors.Is(err, unix.ENOBUFS) {
		return err
	}
	// A long one goes as a sealed file.
	fd, err := unix.MemfdCreate("journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), "journal")
	defer file.Close()
	if _, err := file.Write(entry); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return err
	}
	return s.sendMessage(nil, unix.UnixRights(fd), wait)
}

func (s *sender) sendMessage(data, control []byte, wait bool) error {
	flags := unix.MSG_NOSIGNAL
	if !wait {
		flags |= unix.MSG_DONTWAIT
	}
	for {
		if err := unix.Sendmsg(s.socket, data, control, &s.to, flags); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
