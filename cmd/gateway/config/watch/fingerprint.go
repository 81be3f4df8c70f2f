package watch

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// fingerprint returns a hash of the content of a file, and its size in bytes. The
// content itself is not kept: it may hold secrets.
func fingerprint(path string) ([]byte, int64, error) {
	// Non-blocking: a named pipe must not hold up the watcher.
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s is not a regular file", path)
	}
	hash := sha256.New()
	size, err := io.Copy(hash, file)
	if err != nil {
		return nil, 0, err
	}
	return hash.Sum(nil), size, nil
}

// fingerprintOf stands for the content of a file that cannot be read.
func fingerprintOf(err error) []byte {
	sum := sha256.Sum256([]byte("unreadable: " + err.Error()))
	return sum[:]
}
