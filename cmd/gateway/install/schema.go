package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/units"
)

// planSchema compares the JSON Schema beside the configuration, which is content,
// with this program's. It is nil where the configuration does not name that file,
// or where another file of that name lies.
func (in *Installer) planSchema(path string, content []byte) (*units.Change, error) {
	if !bytes.Contains(content, []byte("$schema="+config.SchemaName+"\n")) {
		return nil, nil
	}
	text, err := config.Schema()
	if err != nil {
		return nil, fmt.Errorf("make the schema of the configuration: %w", err)
	}
	change := &units.Change{Path: filepath.Join(filepath.Dir(path), config.SchemaName), Kind: units.Create, New: text}
	dir, err := units.OpenDir(in.Root, filepath.Dir(path), false)
	if errors.Is(err, fs.ErrNotExist) {
		return change, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	info, err := dir.Lstat(config.SchemaName)
	if errors.Is(err, fs.ErrNotExist) {
		return change, nil
	}
	if err == nil && info.Mode().IsRegular() {
		change.Old, err = dir.ReadFile(config.SchemaName)
	}
	if err != nil {
		return nil, fmt.Errorf("look at the schema of the configuration: %w", err)
	}
	var old struct{ Title string }
	if json.Unmarshal(change.Old, &old) != nil || old.Title != config.SchemaTitle {
		fmt.Fprintf(in.Advice, "%s is not this program's schema and stays as it is\n", change.Path)
		return nil, nil
	}
	change.Kind = units.Update
	if bytes.Equal(change.Old, change.New) {
		change.Kind = units.Unchanged
	}
	return change, nil
}

// writeSchema replaces the file in one step, and never follows a link.
func (in *Installer) writeSchema(change *units.Change) error {
	if change == nil || change.Kind == units.Unchanged {
		return nil
	}
	dir, err := units.OpenDir(in.Root, filepath.Dir(change.Path), true)
	if err != nil {
		return err
	}
	defer dir.Close()
	const mode os.FileMode = 0o644 // there is nothing of anybody's in it
	err = renameio.WriteFile(config.SchemaName, change.New, mode, renameio.WithRoot(dir), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write the schema %s: %w", change.Path, err)
	}
	fmt.Fprintf(in.Out, "%sd %s\n", change.Kind, in.below(change.Path))
	return nil
}
