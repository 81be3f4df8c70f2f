package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/worker/proctree"
)

// stateDirectory is where the launcher keeps what its next life has to know: the unit's StateDirectory=. It is "" for one that
// was started by hand. Nobody but this user may write there, or choose by a link where that is.
func stateDirectory() (string, error) {
	directory, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":")
	if directory == "" {
		if proctree.ExecutedBySystemd() {
			return "", errors.New("the unit gives it no state directory (StateDirectory=): run \"gateway install\" again")
		}
		return "", nil
	}
	info, err := os.Lstat(directory)
	if err == nil && info.Mode().Type() == fs.ModeSymlink {
		above, aboveErr := os.Stat(filepath.Dir(directory))
		if aboveErr != nil || above.Mode().Perm()&0o022 != 0 {
			return "", fmt.Errorf("%s is a link that others can change: put a directory there", directory)
		}
		info, err = os.Stat(directory)
	}
	if err != nil {
		return "", fmt.Errorf("look at the state directory: %w", err)
	}
	if !api.Private(info, os.Geteuid()) {
		return "", fmt.Errorf("%s is not a directory that only uid %d can write to (%s)", directory, os.Geteuid(), info.Mode())
	}
	return directory, nil
}

// stateFile is the path of a file in the state directory; "" where there is none.
func stateFile(name string) (string, error) {
	directory, err := stateDirectory()
	if directory == "" {
		return "", err
	}
	return filepath.Join(directory, name), nil
}

// writeState puts a file into the state directory, all of it or nothing. It may hold secrets: no byte of it in /tmp, where
// renameio writes first if it can.
func writeState(path string, content []byte) error {
	err := renameio.WriteFile(path, content, 0o600, renameio.WithTempDir(filepath.Dir(path)))
	if failed := new(fs.PathError); errors.As(err, &failed) {
		err = &fs.PathError{Op: failed.Op, Path: path, Err: failed.Err} // and not the name that it has until it is complete
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: make room for %s", err, filepath.Dir(path))
	}
	return err
}

// keeper keeps something for the next life of the launcher, beside everything else: a disk can be slow. What could not be kept is
// tried again with the next change, and whenever somebody asks.
type keeper struct {
	log     *slog.Logger
	what    string
	write   func() error // one call at a time
	changed func()       // is called when it can be kept no more, or again

	mu       sync.Mutex
	writing  bool
	again    bool // it has changed meanwhile
	err      error
	finished sync.WaitGroup
}

// keep has it written as it is now, or as it will be then.
func (k *keeper) keep() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.again = true
	if k.writing {
		return
	}
	k.writing = true
	k.finished.Go(k.writeAll)
}

func (k *keeper) writeAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.again {
		k.again = false
		k.mu.Unlock()
		err := k.write()
		k.mu.Lock()
		changed := (k.err == nil) != (err == nil)
		k.err = err
		if changed && err != nil {
			k.log.Error(k.what+" not kept for the next start of the launcher", "error", err)
		}
		if changed && k.changed != nil {
			k.mu.Unlock()
			k.changed()
			k.mu.Lock()
		}
	}
	k.writing = false
}

// tell adds to the problems that it is not kept.
func (k *keeper) tell(problems *[]string) {
	k.mu.Lock()
	err := k.err
	k.mu.Unlock()
	if err != nil {
		*problems = append(*problems, fmt.Sprintf("%s not kept for the next start of the launcher: %v", k.what, err))
		k.keep()
	}
}

// wait returns when all is written.
func (k *keeper) wait() { k.finished.Wait() }
