package units

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"

	"openclaw-gateway/units/instance"
)

// Streams returns where the socket units of ours in dir below root (see [OpenDir]) listen, as ListenStream= has it, by their
// instances. What cannot be read is left out.
func Streams(root, dir string) (map[instance.Name][]string, error) {
	opened, err := OpenDir(root, dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	entries, err := fs.ReadDir(opened.FS(), ".")
	if err != nil {
		return nil, err
	}
	all := map[instance.Name][]string{}
	for _, entry := range entries {
		name, named := instance.OfUnit(entry.Name())
		if !named || filepath.Ext(entry.Name()) != ".socket" {
			continue
		}
		text, err := readOurs(opened, filepath.Join(dir, entry.Name()))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if address, ok := strings.CutPrefix(line, "ListenStream="); ok {
				all[name] = append(all[name], strings.TrimSpace(address))
			}
		}
	}
	return all, nil
}
