package inotify

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Event is a struct inotify_event, see inotify(7).
type Event struct {
	Watch int32
	Mask  uint32
	Name  string // of an entry of the watched directory; "" for the watched itself
}

// decode splits what one read returned; the kernel returns whole events only.
func decode(buffer []byte) []Event {
	var events []Event
	for len(buffer) >= unix.SizeofInotifyEvent {
		length := binary.NativeEndian.Uint32(buffer[12:])
		end := unix.SizeofInotifyEvent + int(length)
		name, _, _ := bytes.Cut(buffer[unix.SizeofInotifyEvent:end], []byte{0})
		events = append(events, Event{
			Watch: int32(binary.NativeEndian.Uint32(buffer)),
			Mask:  binary.NativeEndian.Uint32(buffer[4:]),
			Name:  string(name),
		})
		buffer = buffer[end:]
	}
	return events
}
