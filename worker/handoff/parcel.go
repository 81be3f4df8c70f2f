package handoff

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Socket is a listening socket to hand over. The descriptor stays the caller's.
type Socket struct {
	File    *os.File
	Address netip.AddrPort
}

// Parcel is what one generation inherits.
type Parcel struct {
	// Files are the worker's descriptors from 3 on.
	Files []*os.File
	// Env is added to the worker's environment.
	Env []string
	// ListenPID asks for LISTEN_PID besides, which is the worker's own pid: only the
	// shim can be told a process's pid before it becomes the worker.
	ListenPID bool
	// Reports tells what the worker listens on; nil where the kind cannot know.
	Reports *Reports

	// own are the files that were made for this parcel.
	own []*os.File
}

// Close closes what was made for the parcel, when the worker has inherited it.
// Reports stay open.
func (p *Parcel) Close() {
	for _, file := range p.own {
		_ = file.Close()
	}
}

// Pack prepares the sockets for one generation. environ is the worker's
// environment so far; directory is the launcher's runtime directory, where the
// script that Preload needs is written. A parcel that is not sent is closed by
// its Close and its Reports' Close.
func Pack(kind Kind, sockets []Socket, environ []string, directory string) (*Parcel, error) {
	switch kind {
	case ListenFDs:
		return packListenFDs(sockets), nil
	case Preload:
		return packPreload(sockets, environ, directory)
	default:
		return nil, fmt.Errorf("handoff %q cannot be packed", kind)
	}
}

// packListenFDs follows sd_listen_fds(3).
func packListenFDs(sockets []Socket) *Parcel {
	p := &Parcel{ListenPID: true}
	var names []string
	for _, socket := range sockets {
		p.Files = append(p.Files, socket.File)
		// The name that the socket unit gives (FileDescriptorName=).
		names = append(names, "gateway")
	}
	p.Env = []string{
		"LISTEN_FDS=" + strconv.Itoa(len(sockets)),
		"LISTEN_FDNAMES=" + strings.Join(names, ":"),
	}
	return p
}
