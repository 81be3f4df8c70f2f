package watch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/inotify"
)

const (
	// nameEvents are wanted of every directory on the way.
	nameEvents = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB

	// fileEvents are wanted of the file, and of a directory in which it has its
	// name: if it is new there, they may have happened before it is watched itself.
	fileEvents = unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_ATTRIB

	// linksLimit is how many symbolic links the kernel follows, path_resolution(7).
	linksLimit = 40
)

// chain is what stands on the way to the file: for each watch, the names that
// matter in its directory. The name "" stands for the watched itself.
type chain map[int32]map[string]bool

// concerns says whether the event is of something that stands on the way.
func (c chain) concerns(e inotify.Event) bool {
	names, watched := c[e.Watch]
	return watched && (names[e.Name] || e.Mask&(unix.IN_IGNORED|unix.IN_UNMOUNT) != 0)
}

func (c chain) add(watch int32, name string) {
	if c[watch] == nil {
		c[watch] = map[string]bool{}
	}
	c[watch][name] = true
}

// walk follows the path to the file, or to where it is missing, watches what is on
// the way and ceases to watch what no longer is. It works with names, which may
// change meanwhile; but then an event of a directory that is watched by now comes
// after the walk, and leads to the next.
func (w *Watcher) walk() error {
	found := chain{}
	err := w.follow(found)
	if err != nil {
		return err
	}
	for old := range w.chain {
		if found[old] == nil {
			err = errors.Join(err, w.queue.Remove(old))
		}
	}
	w.chain = found
	return err
}

// follow adds what is on the way to found.
func (w *Watcher) follow(found chain) error {
	directory, rest, links := "/", names(w.path), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			directory = filepath.Dir(directory) // there are no symbolic links in it
			continue
		}
		last := len(rest) == 0 // the file itself, or a symbolic link in its stead
		wanted := uint32(nameEvents)
		if last {
			wanted |= fileEvents
		}
		// Before the look at the name, see walk. A directory may be on the way twice: each adds its events. IN_EXCL_UNLINK: a file that was renamed
		// over keeps its name for whoever still writes to it.
		watch, err := w.queue.Add(directory, wanted|unix.IN_ONLYDIR|unix.IN_EXCL_UNLINK)
		switch {
		case missing(err):
			return nil // replaced since: the event is under way
		case errors.Is(err, fs.ErrPermission) && !last:
		case err != nil:
			return err
		default:
			found.add(watch, name)
		}

		entry := filepath.Join(directory, name)
		info, err := os.Lstat(entry)
		switch {
		case err != nil:
			return nil // missing, or hidden: an event of the directory tells when that changes
		case info.IsDir():
			directory = entry
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(entry)
			links++
			if err != nil || links > linksLimit {
				return nil
			}
			if filepath.IsAbs(target) {
				directory = "/"
			}
			rest = append(names(target), rest...)
		case last && info.Mode().IsRegular():
			// For writes under another name: of a hard link, or outside of a container
			// where the file is a mount of its own.
			watch, err := w.queue.Add(entry, fileEvents)
			if err == nil {
				found.add(watch, "")
			}
			if err != nil && !missing(err) && !errors.Is(err, fs.ErrPermission) {
				return err
			}
			return nil
		default:
			return nil
		}
	}
	return nil
}

// names splits a path.
func names(path string) []string {
	var split []string
	for name := range strings.SplitSeq(path, "/") {
		if name != "" && name != "." {
			split = append(split, name)
		}
	}
	return split
}
