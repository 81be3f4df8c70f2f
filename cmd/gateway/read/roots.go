package read

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// OthersError says that others than root can put what they like at a path.
type OthersError struct {
	Path string // the one that was asked for
	At   string // what on the way there is not only root's
	Why  string // in words: "belongs to user claw"
	UID  int    // that At belongs to, if not to root; then it is another user's as a whole
}

func (e *OthersError) Error() string {
	return fmt.Sprintf("others than root can replace %s: %s %s", e.Path, e.At, e.Why)
}

// OnlyRoots fails with an [OthersError] if others than root can change what lies at an absolute path, or put something else
// there: the file, each folder above it, and wherever a symbolic link on the way leads, have to belong to root, and nobody
// else may write to them but root's own group. In a sticky folder such as /tmp or /nix/store nobody else can replace what is
// root's; what is not there yet anybody can make.
// Access control lists are not read; one that lets somebody else write shows in the mode as the group's right, acl(5).
// The error wraps [fs.ErrNotExist] if something on the way is not there, below what is root's alone. What root cannot look at
// otherwise is not root's: a file system of a user's own (FUSE) answers that user alone, and can be gone in a moment.
func OnlyRoots(path string) error {
	err := OnlyOf(path, 0)
	if _, others := errors.AsType[*OthersError](err); err == nil || others || errors.Is(err, fs.ErrNotExist) || os.Geteuid() != 0 || !filepath.IsAbs(path) {
		return err
	}
	return &OthersError{Path: path, At: path, Why: fmt.Sprintf("cannot be looked at by root (%v)", err)}
}

// Author is the user whose word it is what lies there; -1 where others can put another file in the place of root's.
func (e *OthersError) Author() int {
	if e.UID > 0 {
		return e.UID
	}
	return -1
}

// Author is the user whose word the file at a path is, root's where nobody else can change it; -1 where that is not known. That
// no file is read, "", is root's.
func Author(path string) int {
	if path == "" {
		return 0
	}
	absolute, err := filepath.Abs(path)
	if err == nil {
		err = OnlyRoots(absolute)
	}
	if others, is := errors.AsType[*OthersError](err); is {
		return others.Author()
	}
	if err != nil {
		return -1
	}
	return 0
}

// OnlyOf is OnlyRoots for some owners whom who asks trusts alike, and says of what cannot be looked at that it cannot.
func OnlyOf(path string, owners ...int) error { return onlyOf(owners, "", path) }

// onlyOf is OnlyOf from a folder on that is not looked at itself; "" stands for above /.
func onlyOf(owners []int, base, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s: the path is not absolute", path)
	}
	at, left := base, names(strings.TrimPrefix(path, base))
	if base == "" {
		left = append([]string{"/"}, left...)
	}
	var sticky *OthersError // the folder in which the next name is, where others can make names
	for links := 0; len(left) > 0; {
		next := filepath.Join(at, left[0]) // no link is in it
		left = left[1:]
		info, err := os.Lstat(next)
		if err != nil && sticky != nil {
			return sticky
		}
		if err != nil {
			return fmt.Errorf("look who can replace %s: %w", path, err)
		}
		link := info.Mode().Type() == fs.ModeSymlink
		if why := othersOf(info, owners); why != "" && (!link || sticky != nil && !slices.Contains(owners, Owner(info))) {
			others := &OthersError{Path: path, At: next, Why: why, UID: Owner(info)}
			if !info.IsDir() || info.Mode()&fs.ModeSticky == 0 || !slices.Contains(owners, Owner(info)) || len(left) == 0 {
				return others
			}
			at, sticky = next, others
			continue
		}
		sticky = nil
		if !link {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err == nil && links > linksLimit {
			err = unix.ELOOP
		}
		if err != nil {
			return fmt.Errorf("look who can replace %s: %w", path, err)
		}
		left = append(names(target), left...)
		if filepath.IsAbs(target) {
			at, left = "", append([]string{"/"}, left...)
		}
	}
	return nil
}

// othersOf says who else than the owners can write to a file, or replace what is in a folder.
func othersOf(info fs.FileInfo, owners []int) (why string) {
	stat, mode := info.Sys().(*syscall.Stat_t), info.Mode()
	switch {
	case !slices.Contains(owners, int(stat.Uid)):
		return "belongs to user " + userOf(stat.Uid)
	case mode&0o002 != 0:
		return fmt.Sprintf("can be written to by everybody (mode %04o)", mode.Perm())
	case mode&0o020 != 0 && stat.Gid != 0:
		return fmt.Sprintf("can be written to by the group %s (mode %04o)", groupOf(stat.Gid), mode.Perm())
	}
	return ""
}

func userOf(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if account, err := user.LookupId(id); err == nil {
		return account.Username
	}
	return id
}

func groupOf(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if group, err := user.LookupGroupId(id); err == nil {
		return group.Name
	}
	return id
}
