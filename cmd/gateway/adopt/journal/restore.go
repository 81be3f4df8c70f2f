package journal

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Restored is what came of a path.
type Restored struct {
	Path string
	// Edited is where that is kept which somebody has made of it since.
	Edited string
	// Left says why it stays as it is.
	Left string
}

// Restorable fails if what was there could not be put back, as far as that can be seen before.
func (j *Journal) Restorable() error {
	for _, change := range j.Changes {
		now, _, err := look(change.Path)
		if err == nil && !now.same(change.Before) && !change.After.same(change.Before) {
			err = writable(filepath.Dir(change.Path))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Restore puts back what was there. It tells of each path that somebody else has changed since. It goes on where it fails, and
// may be called again.
func (j *Journal) Restore(tell func(Restored)) error {
	var failed []error
	for _, change := range j.backward() {
		if err := j.restore(change, tell); err != nil {
			failed = append(failed, fmt.Errorf("put back %s: %w", change.Path, err))
		}
	}
	return errors.Join(failed...)
}

// backward is the order in which things are put back: folders that were there, what was or was not in them, the last change
// first, and folders that were not there, which have to be empty then.
func (j *Journal) backward() []Change {
	var were, in, new []Change
	for _, change := range slices.Backward(j.Changes) {
		switch {
		case change.Before.Kind == Folder:
			were = append(were, change)
		case change.After.Kind == Folder:
			new = append(new, change)
		default:
			in = append(in, change)
		}
	}
	byDepth := func(a, b Change) int { return cmp.Compare(len(a.Path), len(b.Path)) }
	slices.SortStableFunc(were, byDepth)
	slices.SortStableFunc(new, byDepth)
	slices.Reverse(new)
	return slices.Concat(were, in, new)
}

func (j *Journal) restore(change Change, tell func(Restored)) error {
	now, content, err := look(change.Path)
	if err != nil {
		return err
	}
	if err := tidy(change.Path); err != nil {
		return err
	}
	if now.same(change.Before) || change.After.same(change.Before) { // what was not changed is whoever's
		return nil
	}
	var before []byte
	if change.Before.Kind == File {
		if before, err = j.folder.ReadFile(filepath.Join(beforeFolder, change.Path)); err != nil {
			return err
		}
		if sum(before) != change.Before.Sum {
			return fmt.Errorf("what is kept of it in %s is not what was there", j.Before())
		}
	}
	if now.Kind != Absent && now.Kind != Folder && !now.same(change.After) {
		edited, err := j.setAside(change.Path, now, content)
		if err != nil {
			return err
		}
		tell(Restored{Path: change.Path, Edited: edited})
	}
	if now.Kind == Folder && change.Before.Kind != Folder {
		err := os.Remove(change.Path)
		if errors.Is(err, unix.ENOTEMPTY) && change.Before.Kind == Absent {
			tell(Restored{Path: change.Path, Left: "it is not empty"})
			return nil
		}
		if err != nil {
			return err
		}
	}
	if change.Before.Kind == Absent && now.Kind == Absent {
		return nil
	}
	if change.Before.Kind != Absent {
		if err := os.MkdirAll(filepath.Dir(change.Path), 0o755); err != nil { // it was there
			return err
		}
	}
	return put(change.Path, change.Before, before, true)
}

// setAside keeps what somebody has made of a path, beside what was kept of it earlier.
func (j *Journal) setAside(path string, now State, content []byte) (string, error) {
	if now.Kind == Link {
		content = []byte(now.Target + "\n")
	}
	name := path
	for n := 2; ; n++ {
		if _, err := j.folder.Lstat(filepath.Join(editedFolder, name)); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = fmt.Sprintf("%s.%d", path, n)
	}
	return filepath.Join(j.Path(), editedFolder, name), j.store(editedFolder, name, content)
}
