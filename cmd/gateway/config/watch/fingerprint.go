package watch

import (
	"crypto/sha256"

	"openclaw-gateway/cmd/gateway/read"
)

// fingerprint returns a hash of the content of a file, and its size in bytes. The
// content itself is not kept: it may hold secrets.
func fingerprint(path string) ([]byte, int, error) {
	content, _, err := read.File(path, read.ConfigLimit)
	if err != nil {
		return nil, 0, err
	}
	sum := sha256.Sum256(content)
	return sum[:], len(content), nil
}

// fingerprintOf stands for the content of a file that cannot be read.
func fingerprintOf(err error) []byte {
	sum := sha256.Sum256([]byte("unreadable: " + err.Error()))
	return sum[:]
}
