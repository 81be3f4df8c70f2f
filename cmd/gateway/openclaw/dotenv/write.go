package dotenv

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/unfinished"
)

// place returns where the file is to be written: at the end of its user's own links, none of which lies where somebody else can
// put another one.
func (f File) place() (string, error) {
	if os.Geteuid() == 0 {
		var others *read.OthersError
		if errors.As(read.OnlyRoots(filepath.Dir(f.Path)), &others) || errors.As(read.OnlyRoots(f.Path), &others) {
			return "", refusal(f.Path, fmt.Sprintf("%s %s, and root writes nothing where others can have it written elsewhere", others.At, others.Why))
		}
	}
	path := f.Path
	for range 8 {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, nil
		}
		if err != nil {
			return "", err
		}
		if info.Mode().Type() != fs.ModeSymlink {
			if owner := read.Owner(info); owner != os.Geteuid() {
				return "", refusal(f.Path, fmt.Sprintf("%s belongs to uid %d, and would be uid %d's then", path, owner, os.Geteuid()))
			}
			return path, nil
		}
		folder, err := os.Stat(filepath.Dir(path))
		if err != nil {
			return "", err
		}
		if owner := read.Owner(folder); folder.Mode()&0o022 != 0 || owner != 0 && owner != os.Geteuid() {
			return "", refusal(f.Path, fmt.Sprintf("%s is a link, in a folder where others can put another one", path))
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", refusal(f.Path, "it is a link to links without an end")
}

// write replaces a file in one step; info is what it was, nil where it was not there.
func (f File) write(path string, text []byte, info fs.FileInfo) error {
	if len(text) > limit {
		return refusal(f.Path, "with one more line it would be longer than OpenClaw reads, which is 1 MiB")
	}
	folder, err := read.Directory(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer folder.Close()
	// The very folder that was looked at.
	root, err := os.OpenRoot(fmt.Sprintf("/proc/self/fd/%d", folder.Fd()))
	if err != nil {
		return fmt.Errorf("open the folder of %s: %w", path, err)
	}
	defer root.Close()
	mode, group := fs.FileMode(0o600), os.Getegid()
	if info != nil {
		mode, group = info.Mode().Perm(), int(info.Sys().(*syscall.Stat_t).Gid)
	}
	_ = unfinished.Remove(root, filepath.Base(path)) // what an interrupted one has left is in nobody's way, and holds secrets
	file, err := renameio.NewPendingFile(filepath.Base(path), renameio.WithRoot(root), renameio.WithStaticPermissions(mode))
	if errors.Is(err, fs.ErrPermission) {
		return refusal(f.Path, fmt.Sprintf("its user may write nothing into %s (chmod u+w)", filepath.Dir(path)))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer file.Cleanup()
	_, err = file.Write(text)
	if err == nil && group != os.Getegid() {
		err = file.Chown(-1, group)
		if errors.Is(err, fs.ErrPermission) { // root has made it, say: then a group may no more than everybody
			err = file.Chmod(mode & (0o707 | mode&0o007<<3))
		}
	}
	if err == nil {
		err = file.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
