package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Ephemeral is the first port that the kernel gives to those who ask for none (ip_local_port_range, ip(7)), as OpenClaw does on its way.
const Ephemeral = 32768

// OpenBy returns the addresses on which one of the processes listens, as far as their descriptors can be seen in the time
// that ctx gives.
func OpenBy(ctx context.Context, pids ...int) ([]netaddr.Address, error) {
	entries, err := find(1<<tcpListen, 0)
	if err != nil {
		return nil, err
	}
	wanted := map[string]uint64{}
	for _, socket := range entries {
		wanted["socket:["+strconv.FormatUint(socket.Inode, 10)+"]"] = socket.Inode
	}
	open := map[uint64]bool{}
	for _, pid := range pids {
		// One that has ended meanwhile listens nowhere.
		found, err := Descriptors(ctx, pid, wanted)
		if err != nil {
			continue
		}
		for name := range found {
			open[wanted[name]] = true
		}
	}
	var addresses []netaddr.Address
	for _, socket := range entries {
		if open[socket.Inode] {
			addresses = append(addresses, socket.Address)
		}
	}
	return addresses, nil
}

// Descriptors returns which of the wanted links a process has among its descriptors, each with the path of one of them. A
// descriptor that may not be read is an error here, unlike in procfs: the directory of a process of the same user with
// more capabilities can be listed, but not one link in it read. A process can have a million of them (fs.nr_open), which
// takes seconds: the error is that of ctx when it has ended before.
func Descriptors(ctx context.Context, pid int, wanted map[string]uint64) (map[string]string, error) {
	directory := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	d, err := os.Open(directory)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	var found map[string]string
	buffer := make([]byte, 64) // longer than any "socket:[…]"; a longer path is cut off, and is no socket
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		names, err := d.Readdirnames(512)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			n, err := unix.Readlinkat(int(d.Fd()), name, buffer)
			if errors.Is(err, unix.ENOENT) {
				continue // closed meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("read %s/%s: %w", directory, name, err)
			}
			if _, ok := wanted[string(buffer[:n])]; !ok {
				continue
			}
			if found == nil {
				found = make(map[string]string, len(wanted))
			}
			found[string(buffer[:n])] = filepath.Join(directory, name)
			if len(found) == len(wanted) {
				return found, nil
			}
		}
	}
}
