// Package compilecache keeps what a Node.js has compiled for the next generation of the worker.
package compilecache

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/units/instance"
)

// Cache is where a Node.js keeps what it has compiled (NODE_COMPILE_CACHE): in the unit's cache directory, or by hand in the
// user's. What lies there is code that will run, so nobody else may be able to write there.
type Cache struct {
	base string // "" where there is none
	log  *slog.Logger

	trimming sync.Mutex
}

// most is how many bytes are kept: OpenClaw 2026.9.6 has 40 MB, and each of its updates adds as much.
const most = 256 << 20

// New returns the cache of an instance. It makes nothing.
func New(name instance.Name, log *slog.Logger) *Cache {
	return &Cache{base: directory(name), log: log}
}

// directory is the one that systemd has made for the unit, or one of the same name in the user's cache; "" where there is none.
func directory(name instance.Name) string {
	if own := runtimedir.First("CACHE_DIRECTORY"); own != "" {
		return own
	}
	if own, err := os.UserCacheDir(); err == nil {
		return filepath.Join(own, name.Directory())
	}
	return ""
}

// Path makes the directory unless it is there, and fails where it is not this user's alone.
func (c *Cache) Path() (string, error) { return c.path(api.CompileCache) }

// Modules is the same for what is known of the modules of the worker.
func (c *Cache) Modules() (string, error) {
	directory, err := c.path(api.Prewarm)
	if err != nil {
		return "", err
	}
	if info, err := os.Lstat(directory); err != nil || info.Mode().Perm()&0o077 != 0 {
		return "", errors.Join(fmt.Errorf("%s is not this user's alone: chmod 0700", directory), err)
	}
	return directory, nil
}

func (c *Cache) path(name string) (string, error) {
	if c.base == "" {
		return "", errors.New("neither the unit (CacheDirectory=) nor HOME says where it could be")
	}
	directory := filepath.Join(c.base, name)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", err
	}
	for _, path := range []string{c.base, directory} {
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		if !api.Private(info, os.Geteuid()) {
			return "", fmt.Errorf("%s is not a directory that only uid %d can write to (%s), and what is in it would run",
				path, os.Geteuid(), info.Mode())
		}
	}
	return directory, nil
}

// Trim removes what other versions of Node.js have left than the one whose part it is, and all of that one's if it has become too
// much; of a part that is not known, "", only the latter. Which of it is still of use nobody knows, and the next start makes that anew.
func (c *Cache) Trim(part string) {
	if !c.trimming.TryLock() {
		return
	}
	defer c.trimming.Unlock()
	if err := trim(filepath.Join(c.base, api.CompileCache), part, most); err != nil {
		c.log.Warn("the compile cache is not kept small", "error", err)
	}
}

func trim(directory, part string, limit int64) error {
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	parts, err := fs.ReadDir(root.FS(), ".")
	var size int64
	var files []string
	for _, other := range parts {
		if part != "" && other.Name() != part {
			err = errors.Join(err, root.RemoveAll(other.Name()))
			continue
		}
		all, readErr := fs.ReadDir(root.FS(), other.Name())
		err = errors.Join(err, readErr)
		for _, file := range all {
			files = append(files, filepath.Join(other.Name(), file.Name()))
			if info, err := file.Info(); err == nil {
				size += info.Size()
			}
		}
	}
	if size <= limit {
		return err
	}
	for _, file := range files {
		err = errors.Join(err, root.RemoveAll(file))
	}
	return err
}
