package asuser

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mountSilent mounts a file system for somebody, as fusermount would, until the test ends: requests that wait are given up
// then. To read its file takes no end.
func mountSilent(t *testing.T) (file string) {
	t.Helper()
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir, which other users cannot enter.
	directory, err := os.MkdirTemp("", "silent")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", device.Fd(), somebody.Uid, somebody.Gid)
	if err := unix.Mount("silent", directory, "fuse", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		device.Close() // which ends what waits
		if err := unix.Unmount(directory, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
		_ = os.Remove(directory)
	})
	go serveSilent(int(device.Fd()))
	return filepath.Join(directory, "file")
}

// serveSilent answers what it takes to open a file (linux/fuse.h), and no read.
func serveSilent(device int) {
	const (
		lookup, getattr, open, read, initialise, forget = 1, 3, 14, 15, 26, 2
		headerSize, attributesSize                      = 16, 88
	)
	request := make([]byte, 1<<17)
	attributes := func(mode uint32, node uint64) []byte {
		a := make([]byte, attributesSize)
		binary.NativeEndian.PutUint64(a, node)
		binary.NativeEndian.PutUint64(a[8:], 100) // the size
		binary.NativeEndian.PutUint32(a[60:], mode)
		binary.NativeEndian.PutUint32(a[64:], 1) // links
		binary.NativeEndian.PutUint32(a[68:], somebody.Uid)
		binary.NativeEndian.PutUint32(a[72:], somebody.Gid)
		return a
	}
	for {
		n, err := unix.Read(device, request)
		if err != nil || n < 40 {
			return
		}
		node := binary.NativeEndian.Uint64(request[16:])
		var body []byte
		var failed int32
		switch binary.NativeEndian.Uint32(request[4:]) {
		case initialise:
			body = make([]byte, 64)
			binary.NativeEndian.PutUint32(body, 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 1<<16) // max_write
		case lookup:
			body = append(make([]byte, 40), attributes(unix.S_IFREG|0o644, 2)...)
			binary.NativeEndian.PutUint64(body, 2)
		case getattr:
			mode := uint32(unix.S_IFREG | 0o644)
			if node == 1 {
				mode = unix.S_IFDIR | 0o755
			}
			body = append(make([]byte, 16), attributes(mode, node)...)
		case open:
			body = make([]byte, 16)
		case read, forget:
			continue
		default:
			failed = -int32(unix.ENOSYS)
		}
		answer := make([]byte, headerSize, headerSize+len(body))
		binary.NativeEndian.PutUint32(answer, uint32(headerSize+len(body)))
		binary.NativeEndian.PutUint32(answer[4:], uint32(failed))
		copy(answer[8:16], request[8:16]) // the request's number
		_, _ = unix.Write(device, append(answer, body...))
	}
}

// TestSilentFileSystem: a child that waits for a file system of its user's own cannot be killed, and keeps nobody waiting.
func TestSilentFileSystem(t *testing.T) {
	needsRoot(t)
	file := mountSilent(t)
	waiting = patience{}
	start := time.Now()
	_, err := acts.Ask(t.Context(), somebody, "read "+file)
	if err == nil || !strings.Contains(err.Error(), errSilent.Error()) {
		t.Errorf("the answer: %v", err)
	}
	if took := time.Since(start); took > soon {
		t.Errorf("it took %v", took)
	}
}
