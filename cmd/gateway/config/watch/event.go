package watch

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// event is a struct inotify_event, see inotify(7).
type event struct {
	watch int32
	mask  uint32
	name  string // of an entry of the watched directory; "" for the watched itself
}

// decode splits what one read returned; the kernel returns whole events only.
func decode(buffer []byte) []event {
	var events []event
	for len(buffer) >= unix.SizeofInotifyEvent {
		length := binary.NativeEndian.Uint32(buffer[12:])
		end := unix.SizeofInotifyEvent + int(length)
		name, _, _ := bytes.Cut(buffer[unix.SizeofInotifyEvent:end], []byte{0})
		events = append(events, event{
			watch: int32(binary.NativeEndian.Uint32(buffer)),
			mask:  binary.NativeEndian.Uint32(buffer[4:]),
			name:  string(name),
		})
		buffer = buffer[end:]
	}
	return events
}
