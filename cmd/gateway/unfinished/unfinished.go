// Package unfinished takes away what a write has left that did not come to its end: the power went, or its process was killed.
package unfinished

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Remove takes away what was to become the file of that name in the folder. Until it is complete renameio calls it a dot, the name and a
// number. Nobody may be writing the file meanwhile.
func Remove(folder *os.Root, name string) error {
	opened, err := folder.Open(".")
	if err != nil {
		return fmt.Errorf("look for unfinished files: %w", err)
	}
	defer opened.Close()
	entries, err := opened.ReadDir(-1)
	if err != nil {
		return fmt.Errorf("look for unfinished files: %w", err)
	}
	for _, entry := range entries {
		number, is := strings.CutPrefix(entry.Name(), "."+name)
		if _, err := strconv.ParseUint(number, 10, 64); !is || err != nil || !entry.Type().IsRegular() {
			continue
		}
		if err := folder.Remove(entry.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove an unfinished file: %w", err)
		}
	}
	return nil
}
