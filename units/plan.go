package units

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/aymanbagabas/go-udiff"
	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// ErrForeign is wrapped by the error about a file that has the name of one of our units but was not written by us.
var ErrForeign = errors.New("not written by this program")

// fileMode lets everybody read the units, as systemctl cat does for every user.
const fileMode = 0o644

// A Kind says what a [Change] does to its file.
type Kind string

// The kinds of changes.
const (
	Create    Kind = "create"
	Update    Kind = "update"
	Unchanged Kind = "unchanged"
)

// A Change is the difference between a unit file as it lies there and as it should be. Old is nil when there is none.
type Change struct {
	Path     string // absolute, without the root
	Kind     Kind
	Old, New []byte
}

// Diff returns the change as a unified diff, empty if there is nothing to change.
func (c Change) Diff() string {
	from := c.Path
	if c.Kind == Create {
		from = "/dev/null"
	}
	return udiff.Unified(from, c.Path, string(c.Old), string(c.New))
}

// Plan compares files with what lies in dir below root (see [OpenDir]) and changes nothing. It fails if one of the files
// is there and is not ours ([ErrForeign]), with a sentence for each that says what to do.
func Plan(root, dir string, files []File) ([]Change, error) {
	var names []string
	for _, file := range files {
		names = append(names, file.Name)
	}
	texts, err := read(root, dir, names...)
	if err != nil {
		return nil, err
	}
	var changes []Change
	for _, file := range files {
		old := texts[file.Name]
		change := Change{Path: filepath.Join(dir, file.Name), Kind: Update, Old: old, New: file.Content}
		switch {
		case old == nil:
			change.Kind = Create
		case bytes.Equal(old, file.Content):
			change.Kind = Unchanged
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// Apply writes the changes below root (see [OpenDir]): each file in one step, by a rename, so that systemd never reads
// half a unit, and never through a symbolic link. It refuses a file that is no longer as it was planned.
func Apply(root string, changes []Change) error {
	for _, change := range changes {
		if change.Kind == Unchanged {
			continue
		}
		if err := write(root, change); err != nil {
			return fmt.Errorf("write %s: %w", change.Path, err)
		}
	}
	return nil
}

func write(root string, change Change) error {
	dir, err := OpenDir(root, filepath.Dir(change.Path), true)
	if err != nil {
		return err
	}
	defer dir.Close()
	now, err := readOurs(dir, change.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !bytes.Equal(now, change.Old) {
		return errors.New("somebody has changed it meanwhile; run the command again")
	}
	return renameio.WriteFile(filepath.Base(change.Path), change.New, fileMode,
		renameio.WithRoot(dir), renameio.WithStaticPermissions(fileMode))
}

// read returns the texts of those of our units that lie in dir below root, by their names. A file that is not ours is left
// out, and named in the error, beside which the texts are valid.
func read(root, dir string, names ...string) (map[string][]byte, error) {
	opened, err := OpenDir(root, dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	texts := map[string][]byte{}
	var refused []error
	for _, name := range names {
		text, err := readOurs(opened, filepath.Join(dir, name))
		if err == nil {
			texts[name] = text
		} else if !errors.Is(err, fs.ErrNotExist) {
			refused = append(refused, err)
		}
	}
	return texts, errors.Join(refused...)
}

// readOurs returns the text of the unit at path, which lies in dir. The error wraps [fs.ErrNotExist] or [ErrForeign].
func readOurs(dir *os.Root, path string) ([]byte, error) {
	name := filepath.Base(path)
	info, err := dir.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	if info.Mode().Type() == fs.ModeSymlink {
		target, _ := dir.Readlink(name)
		if target == os.DevNull {
			return nil, fmt.Errorf("%s is masked, a link to /dev/null %w: run `%s unmask %s`, then this again", path, ErrForeign, systemctl(path), name)
		}
		return nil, fmt.Errorf("%s is a symbolic link to %q and %w: move it away, then run this again", path, target, ErrForeign)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file and %w: move it away, then run this again", path, ErrForeign)
	}
	if info.Size() > unitLimit {
		return nil, fmt.Errorf("%s is bigger than %d MiB and %w: move it away, then run this again", path, unitLimit>>20, ErrForeign)
	}
	text, err := readUnit(dir, name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if !Ours(text) {
		return nil, fmt.Errorf("%s was %w (OpenClaw's own unit has the same name): stop it, remove it with \"openclaw gateway uninstall\" if it is OpenClaw's or else move it away, then run this again",
			path, ErrForeign)
	}
	return text, nil
}

// systemctl is how a person calls it for the manager of the unit at path.
func systemctl(path string) string {
	if dir, err := Dir(System); err == nil && filepath.Dir(path) == dir {
		return "systemctl"
	}
	return "systemctl --user"
}

// unitLimit is in bytes: ours have some 2 KiB.
const unitLimit = 1 << 20

// readUnit reads a file that was regular when it was looked at, and may be another since.
func readUnit(dir *os.Root, name string) ([]byte, error) {
	file, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("somebody has replaced it meanwhile; run the command again")
	}
	return io.ReadAll(io.LimitReader(file, unitLimit))
}
