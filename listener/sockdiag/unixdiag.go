package sockdiag

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/netaddr"
)

// The structures and attributes of linux/unix_diag.h.
type (
	unixDiagRequest struct { // struct unix_diag_req, in its message
		Header              unix.NlMsghdr
		Family, Protocol    uint8
		_                   uint16
		States, Inode, Show uint32
		Cookie              [2]uint32
	}

	unixDiagMessage struct { // struct unix_diag_msg
		Family, Type, State, _ uint8
		Inode                  uint32
		Cookie                 [2]uint32
	}
)

const (
	unixName  = 0 // UNIX_DIAG_NAME, as bind(2) had it
	unixVFS   = 1 // UNIX_DIAG_VFS: inode and device of its file, as the kernel has them
	unixIcons = 3 // UNIX_DIAG_ICONS: of a listener, the inodes of the clients in its queue
	unixQueue = 4 // UNIX_DIAG_RQLEN: of a listener, how many wait and how many may
	unixUID   = 7 // UNIX_DIAG_UID, since Linux 5.3

	unixShown = 1<<unixName | 1<<unixVFS | 1<<unixIcons | 1<<unixQueue | 1<<6 // the last is UDIAG_SHOW_UID
)

// file is which file a unix socket has, as the kernel numbers them; zero where that is not known.
type file struct{ inode, device uint32 }

// unixEntry is a unix stream socket.
type unixEntry struct {
	Socket
	state   uint8
	file    file
	waiting []uint64 // of a listener, the inodes of the clients in the queue; 0 is one that has gone
}

// unixDiag asks the kernel for the unix sockets in one of the states, or for the one with this inode, if it is not 0. A
// connection in a queue is no socket of its own yet.
func unixDiag(states uint32, inode uint64) ([]unixEntry, error) {
	const anyCookie = 1<<32 - 1
	request := unixDiagRequest{
		Family: unix.AF_UNIX, States: states, Inode: uint32(inode), Show: unixShown, Cookie: [2]uint32{anyCookie, anyCookie},
	}
	request.Header.Type, request.Header.Flags = unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST
	if inode == 0 {
		request.Header.Flags |= unix.NLM_F_DUMP
	}
	request.Header.Len = uint32(binary.Size(request))
	var entries []unixEntry
	err := ask(request, "unix sockets", func(data []byte) error {
		e, err := parseUnixDiag(data)
		if err == nil && states&(1<<e.state) != 0 {
			entries = append(entries, e)
		}
		return err
	})
	return entries, err
}

func parseUnixDiag(data []byte) (unixEntry, error) {
	const size = int(unsafe.Sizeof(unixDiagMessage{}))
	if len(data) < size {
		return unixEntry{}, fmt.Errorf("sock_diag answered with %d bytes instead of %d", len(data), size)
	}
	m := (*unixDiagMessage)(unsafe.Pointer(unsafe.SliceData(data)))
	e := unixEntry{Socket: Socket{Inode: uint64(m.Inode), Exact: true}, state: m.State}
	for kind, value := range attributes(data[size:]) {
		number := func(i int) uint32 { return binary.NativeEndian.Uint32(value[4*i:]) }
		switch {
		case kind == unixName:
			e.Address = netaddr.Unix(nameOf(value))
		case kind == unixVFS && len(value) >= 8:
			e.file = file{number(0), number(1)}
		case kind == unixQueue && len(value) >= 8 && e.state == tcpListen:
			e.Queued, e.Backlog = int(number(0)), int(number(1))
		case kind == unixUID && len(value) >= 4:
			e.UID = number(0)
		case kind == unixIcons:
			for i := range len(value) / 4 {
				e.waiting = append(e.waiting, uint64(number(i)))
			}
		}
	}
	return e, nil
}

// nameOf is a name of the kernel's as bind(2) is given it: a path ends with a zero byte, an abstract name, written with an @,
// begins with one.
func nameOf(raw []byte) string {
	if len(raw) > 0 && raw[0] == 0 {
		return "@" + string(raw[1:])
	}
	name, _, _ := strings.Cut(string(raw), "\x00")
	return name
}

// fileAt is the file at a path, behind symlinks as for who connects; zero where there is none that could be seen.
func fileAt(path string) file {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return file{}
	}
	return file{inode: uint32(stat.Ino), device: unix.Major(stat.Dev)<<20 | unix.Minor(stat.Dev)} // MKDEV of linux/kdev_t.h
}

// unixOn returns the unix sockets in one of the states that are bound to the file at a path. Where a file system has other numbers
// for itself than for programs (btrfs, overlayfs), the name that the socket was bound by decides.
func unixOn(states uint32, path string) ([]unixEntry, error) {
	at := fileAt(path)
	if at == (file{}) {
		return nil, nil
	}
	entries, err := unixDiag(states, 0)
	if err != nil {
		if entries, err = procNetUnix(states); err != nil {
			return nil, err
		}
	}
	bound := func(same func(unixEntry) bool) []unixEntry {
		return slices.DeleteFunc(slices.Clone(entries), func(e unixEntry) bool { return !same(e) })
	}
	on := bound(func(e unixEntry) bool { return e.file == at })
	if len(on) == 0 {
		on = bound(func(e unixEntry) bool { return e.Address.Path() == path })
	}
	for i := range on {
		on[i].Address = netaddr.Unix(path)
	}
	return on, nil
}

// procNetUnix is the same from /proc/net/unix, which knows neither files nor queues: see netTCP.
func procNetUnix(states uint32) ([]unixEntry, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	lines, err := proc.NetUNIX()
	if err != nil {
		return nil, err
	}
	const listens = 1 << 16 // __SO_ACCEPTCON of linux/net.h
	var entries []unixEntry
	for _, line := range lines.Rows {
		e := unixEntry{Socket: Socket{Inode: line.Inode, Exact: true, Address: netaddr.Unix(line.Path)}, state: tcpEstablished}
		if line.Flags&listens != 0 {
			e.state = tcpListen
		}
		if connected := line.State == 3; states&(1<<e.state) != 0 && (connected || e.state == tcpListen) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// unixSockets are those that listen at a path.
func unixSockets(path string) ([]Socket, error) {
	entries, err := unixOn(1<<tcpListen, path)
	if err != nil {
		return nil, fmt.Errorf("look for sockets on %s: %w", netaddr.Unix(path), err)
	}
	var sockets []Socket
	for _, e := range entries {
		sockets = append(sockets, e.Socket)
	}
	return sockets, nil
}

// unixConnections counts the connections to a path, those in the queue included.
func unixConnections(path string) (count int, err error) {
	entries, err := unixOn(1<<tcpListen|1<<tcpEstablished, path)
	if err != nil {
		return 0, fmt.Errorf("count connections on %s: %w", netaddr.Unix(path), err)
	}
	for _, e := range entries {
		count += e.Queued
		if e.state == tcpEstablished {
			count++
		}
	}
	return count, nil
}

// UnixQueue returns the inodes of the clients in the queue of the unix socket with this inode, 0 for each that has gone, and how
// many may wait. It fails where the kernel has no sock_diag for unix sockets, or where the socket belongs to another
// network namespace.
func UnixQueue(inode uint64) (waiting []uint64, backlog int, err error) {
	entries, err := unixDiag(1<<tcpListen, inode)
	if err != nil || len(entries) == 0 {
		return nil, 0, fmt.Errorf("read the queue of a unix socket: %w", cmp.Or(err, fs.ErrNotExist))
	}
	return entries[0].waiting, entries[0].Backlog, nil
}

// UnixAtPath reports whether clients that connect to a path come to the unix socket with this inode: its file may have been
// removed, or replaced by another's. Where nobody can tell, it does if there is a socket.
func UnixAtPath(inode uint64, path string) bool {
	at := fileAt(path)
	if at == (file{}) {
		_, err := os.Stat(path)
		return os.IsPermission(err)
	}
	entries, err := unixDiag(1<<tcpListen, inode)
	if err != nil || len(entries) == 0 || entries[0].file == at {
		return true
	}
	on, err := unixOn(1<<tcpListen, path)
	return err != nil || slices.ContainsFunc(on, func(e unixEntry) bool { return e.Inode == inode })
}

// unixUnaccepted is Unaccepted for a client that has a name.
func unixUnaccepted(server, client netaddr.Address) (bool, error) {
	entries, err := unixDiag(1<<tcpListen|1<<tcpEstablished, 0)
	if err != nil {
		return false, fmt.Errorf("look for the connection from %s to %s: %w", client, server, err)
	}
	own := slices.IndexFunc(entries, func(e unixEntry) bool { return client.IsValid() && e.Address == client })
	return own >= 0 && slices.ContainsFunc(entries, func(e unixEntry) bool {
		return e.state == tcpListen && slices.Contains(e.waiting, entries[own].Inode)
	}), nil
}
