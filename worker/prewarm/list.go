package prewarm

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// listFile is the name of the list in its directory. It names code that will run.
const (
	listFile  = "modules.json"
	listLimit = 16 << 20 // that of OpenClaw 2026.9.6 has 1.3 MB
)

// ErrNoList says that no life of the program has told what it loads.
var ErrNoList = errors.New("no earlier start has told which modules it loads, as Node.js from 22.15 on does ten seconds after it listens")

// ErrNothing says that there is nothing to load ahead.
var ErrNothing = errors.New("the program has loaded no modules besides its own file, so there is nothing to load ahead: take restart.prewarm out")

// List is what a life of a program has loaded.
type List struct {
	Learned time.Time // when that was
	Modules int
	files   []string
}

// ReadList returns the list of the program with that key. It fails where somebody else could have written it, and with [ErrNoList] or
// [ErrNothing].
func ReadList(directory, key string) (List, error) {
	path := filepath.Join(directory, listFile)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return List{}, ErrNoList
	}
	if err != nil {
		return List{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return List{}, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || !info.Mode().IsRegular() || int(stat.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return List{}, fmt.Errorf("%s is not a file that uid %d alone can read and write (%s), and what it names would run: remove it", path, os.Geteuid(), info.Mode())
	}
	content, err := io.ReadAll(io.LimitReader(file, listLimit))
	if err != nil {
		return List{}, err
	}
	var list struct {
		Key     string   `json:"key"`
		Modules [][2]any `json:"modules"` // the URL, and whether it is imported
		Besides []string `json:"besides"` // the URLs of what else they have asked for
	}
	if err := json.Unmarshal(content, &list); err != nil || list.Modules == nil {
		return List{}, ErrNoList // torn, or of another launcher
	}
	if list.Key != key {
		return List{}, fmt.Errorf("the program, its command or its environment has changed: %w", ErrNoList)
	}
	if len(list.Modules) == 0 {
		return List{}, ErrNothing
	}
	known := List{Learned: info.ModTime(), Modules: len(list.Modules)}
	for _, module := range list.Modules {
		text, _ := module[0].(string)
		list.Besides = append(list.Besides, text)
	}
	for _, text := range list.Besides {
		if at, err := url.Parse(text); err == nil && at.Scheme == "file" {
			known.files = append(known.files, at.Path)
		}
	}
	return known, nil
}

// Files are those of the modules and of what they have asked for, as they are now: a text that is another one when one of them is.
func (l List) Files() (string, error) {
	sum := sha256.New()
	if err := addFiles(sum, l.files); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// Forget removes the list.
func Forget(directory string) error {
	err := os.Remove(filepath.Join(directory, listFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
