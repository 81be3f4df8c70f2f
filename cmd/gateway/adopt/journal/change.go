package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/read"
)

// Change is a path that is changed: what was there, and what is put there.
type Change struct {
	Path   string `json:"path"`
	Before State  `json:"before"`
	After  State  `json:"after"`
}

// Keep takes in what lies at the paths, before anything is changed: folders with all that is in them. A path that is kept
// already stays as it was.
func (j *Journal) Keep(paths ...string) error {
	for _, path := range paths {
		if _, err := j.keep(path); err != nil {
			return err
		}
	}
	return j.Save()
}

// keep returns the place of a path in the record.
func (j *Journal) keep(path string) (int, error) {
	path = filepath.Clean(path)
	if i := j.index(path); i >= 0 {
		return i, nil
	}
	if os.Geteuid() == 0 {
		// A folder that is not there yet is made below one that is.
		if others, is := errors.AsType[*read.OthersError](read.OnlyRoots(filepath.Dir(path))); is {
			return -1, fmt.Errorf("root changes nothing where others can: %w", others)
		}
	}
	now, content, err := look(path)
	if err != nil {
		return -1, err
	}
	switch now.Kind {
	case Folder:
		names, err := names(path)
		if err != nil {
			return -1, err
		}
		for _, name := range names {
			if _, err := j.keep(filepath.Join(path, name)); err != nil {
				return -1, err
			}
		}
	case File:
		if err := j.store(beforeFolder, path, content); err != nil {
			return -1, err
		}
	}
	j.Changes = append(j.Changes, Change{Path: path, Before: now, After: now})
	return len(j.Changes) - 1, nil
}

func (j *Journal) index(path string) int {
	return slices.IndexFunc(j.Changes, func(c Change) bool { return c.Path == path })
}

// store keeps a content in a folder of the journal, below the path that it has, for the owner alone.
func (j *Journal) store(folder, path string, content []byte) error {
	name := filepath.Join(folder, path)
	err := j.folder.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		err = writeFile(j.folder, name, content, private(), true)
	}
	if err != nil {
		return fmt.Errorf("keep %s in %s: %w", path, j.Path(), err)
	}
	return nil
}

// Write puts a file at a path, whatever is there, in one step; and the folders above it that are not there.
func (j *Journal) Write(path string, content []byte, mode fs.FileMode, uid, gid int) error {
	return j.change(path, State{Kind: File, Mode: mode, UID: uid, GID: gid, Sum: sum(content)}, content)
}

// Link puts a symbolic link at a path, in one step.
func (j *Journal) Link(path, target string) error {
	return j.change(path, State{Kind: Link, UID: os.Geteuid(), GID: os.Getegid(), Target: target}, nil)
}

// Remove takes away what lies at a path: a folder with all that is in it.
func (j *Journal) Remove(path string) error {
	i, err := j.keep(path)
	if err != nil {
		return err
	}
	path = j.Changes[i].Path
	if j.Changes[i].Before.Kind == Folder {
		for _, change := range slices.Clone(j.Changes) { // the folders in it behind what they have
			if strings.HasPrefix(change.Path, path+"/") {
				if err := j.change(change.Path, State{Kind: Absent}, nil); err != nil {
					return err
				}
			}
		}
	}
	return j.change(path, State{Kind: Absent}, nil)
}

// change writes down what shall be at a path, and puts it there.
func (j *Journal) change(path string, after State, content []byte) error {
	if after.Kind != Absent {
		if err := j.makeFolder(filepath.Dir(path)); err != nil {
			return err
		}
	}
	i, err := j.keep(path)
	if err != nil {
		return err
	}
	if j.Changes[i].After.same(after) && after.same(j.Changes[i].Before) {
		return nil
	}
	j.Changes[i].After = after
	return j.do(j.Changes[i].Path, after, content)
}

// do writes the record down and has a path be as it shall be.
func (j *Journal) do(path string, after State, content []byte) error {
	switch j.pace {
	case intending:
		return writable(filepath.Dir(path))
	case hurrying:
		j.hurried = append(j.hurried, path)
	default:
		if err := j.Save(); err != nil {
			return err
		}
	}
	step()
	return put(path, after, content, j.pace != hurrying)
}

// The paces at which changes are made.
const (
	steady    = iota // each on the disk before the next
	intending        // none: they are written down
	hurrying         // all of them: they are written down already, and on the disk with Settle
)

// Intend writes down what a function that makes changes is going to do, and does none of it. What it cannot keep is an error now.
func (j *Journal) Intend(changes func() error) error {
	j.pace = intending
	defer func() { j.pace = steady }()
	before := slices.Clone(j.Changes)
	if err := changes(); err != nil {
		j.Changes = before
		return err
	}
	return j.Save()
}

// Hurry makes the changes that were intended, as fast as can be: somebody waits. Settle has to follow.
func (j *Journal) Hurry(changes func() error) error {
	j.pace = hurrying
	defer func() { j.pace = steady }()
	return changes()
}

// Settle has what was made in a hurry be on the disk.
func (j *Journal) Settle() error {
	for _, path := range j.hurried {
		if err := settle(path); err != nil {
			return fmt.Errorf("have %s on the disk: %w", path, err)
		}
	}
	j.hurried = nil
	return j.Save()
}

// makeFolder makes a folder and those above it that are not there.
func (j *Journal) makeFolder(path string) error {
	switch now, err := os.Stat(path); {
	case err == nil && now.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("%s is no folder: move it away, then run this again", path)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("look at a folder: %w", err)
	}
	if err := j.makeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	i, err := j.keep(path)
	if err != nil {
		return err
	}
	j.Changes[i].After = State{Kind: Folder, Mode: 0o755, UID: os.Geteuid(), GID: os.Getegid()}
	return j.do(path, j.Changes[i].After, nil)
}
