package read

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// globLimit is how many names one pattern may look at: a folder of unit files has hundreds.
const globLimit = 10_000

// IsPattern says whether [Glob] looks for more than one name.
func IsPattern(path string) bool { return strings.ContainsAny(path, `*?[\`) }

// Glob is [filepath.Glob] for an absolute pattern, within bounds: it fails when it would have to look at more than 10,000
// names. Folders that are not there or may not be read hold nothing, nor for root does a link of another user's that it has
// come across; one that the pattern names is an error.
func Glob(pattern string) ([]string, error) {
	if _, err := filepath.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	found, left := []string{"/"}, globLimit
	across := false // found by a wildcard
	for _, name := range names(pattern) {
		if len(name) > unix.NAME_MAX {
			return nil, fmt.Errorf("%.20s…: a name in the pattern is longer than %d bytes", pattern, unix.NAME_MAX)
		}
		var next []string
		for _, folder := range found {
			matches, err := matching(folder, name, &left)
			if across && errors.Is(err, ErrLink) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if left < 0 {
				return nil, fmt.Errorf("%s looks at more than %d names: write out more of it", pattern, globLimit)
			}
			next = append(next, matches...)
		}
		found, across = next, IsPattern(name)
	}
	return found, nil
}

// matching are the names in a folder that match, in order; left is how many may still be looked at.
func matching(folder, pattern string, left *int) ([]string, error) {
	if !IsPattern(pattern) {
		*left--
		path := below(folder, pattern)
		file, _, err := locate(path)
		if err == nil {
			return []string{path}, file.Close()
		}
		return nil, unlessAbsent(err)
	}
	found, info, err := locate(folder)
	if err != nil {
		return nil, unlessAbsent(err)
	}
	defer found.Close()
	if !info.IsDir() {
		return nil, nil
	}
	fd, err := reopen(found, folder, unix.O_DIRECTORY)
	if err != nil {
		return nil, unlessAbsent(err)
	}
	directory := os.NewFile(uintptr(fd), folder)
	defer directory.Close()
	var matches []string
	for *left >= 0 {
		some, err := directory.Readdirnames(256)
		for _, name := range some {
			if ok, _ := filepath.Match(pattern, name); ok {
				matches = append(matches, below(folder, name))
			}
		}
		*left -= len(some)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // as of /proc/PID/map_files, which may be opened and not be read
			return nil, unlessAbsent(err)
		}
	}
	slices.Sort(matches)
	return matches, nil
}

// below does not clean the path: a ".." may follow a link.
func below(folder, name string) string { return strings.TrimSuffix(folder, "/") + "/" + name }

func unlessAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}
