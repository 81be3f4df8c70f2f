package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// getentLimit is for a directory service that does not answer.
const getentLimit = 3 * time.Second

// Account finds a user by name or by uid, wherever the system has its users: in /etc/passwd, which is all that a program
// without the C library reads, or where nsswitch.conf(5) says, for which getent(1) is asked. A user that there is not is a
// [user.UnknownUserError].
func Account(key string) (*user.User, error) {
	account, err := user.Lookup(key)
	if err == nil {
		return account, nil
	}
	if _, notNumber := strconv.Atoi(key); notNumber == nil {
		if account, err := user.LookupId(key); err == nil {
			return account, nil
		}
	}
	if !NoUser(err) {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "getent", "--", "passwd", key)
	var output bytes.Buffer
	cmd.Stdout = &output
	if cmd.Run() != nil {
		return nil, err
	}
	// passwd(5)
	fields := strings.Split(strings.TrimSuffix(output.String(), "\n"), ":")
	if len(fields) != 7 {
		return nil, err
	}
	return &user.User{Username: fields[0], Uid: fields[2], Gid: fields[3], Name: fields[4], HomeDir: fields[5]}, nil
}

// NoUser reports whether that is an error about a user that there is not, or not any more.
func NoUser(err error) bool {
	_, unknown := errors.AsType[user.UnknownUserError](err)
	return unknown
}

// UserNames returns the names of all users that the system lists; of a directory service that may not be all.
func UserNames(ctx context.Context) (names []string) {
	ctx, cancel := context.WithTimeout(ctx, getentLimit)
	defer cancel()
	output, _ := exec.CommandContext(ctx, "getent", "passwd").Output()
	for line := range strings.Lines(string(output)) {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	return names
}

// Credential is what a process of a user has: the uid, its primary group, and those of /etc/group.
func Credential(uid int) (*syscall.Credential, error) {
	account, err := Account(strconv.Itoa(uid))
	if err != nil {
		return nil, fmt.Errorf("find the group of uid %d: %w", uid, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("find the group of uid %d: %w", uid, err)
	}
	credential := &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	ids, _ := account.GroupIds() // without them the user may do less
	for _, id := range ids {
		if gid, err := strconv.ParseUint(id, 10, 32); err == nil {
			credential.Groups = append(credential.Groups, uint32(gid))
		}
	}
	return credential, nil
}

// strangersLimit is how long all uids together may take that have no name: a user can have 65,536 of them (subuid(5)), and
// getent is a process for each.
const strangersLimit = time.Second

var (
	names     sync.Map     // uid: string
	strangers atomic.Int64 // nanoseconds
)

// UserName is the name for a uid, or the number where there is none, or no time to ask for it.
func UserName(uid int) string {
	if name, known := names.Load(uid); known {
		return name.(string)
	}
	id, find, start := strconv.Itoa(uid), Account, time.Now()
	late := strangers.Load() > int64(strangersLimit)
	if late {
		find = user.LookupId // in /etc/passwd
	}
	account, err := find(id)
	switch {
	case err == nil:
		names.Store(uid, account.Username)
		return account.Username
	case !late:
		strangers.Add(int64(time.Since(start)))
	}
	return id
}

// SessionsOnly reports whether the manager of a user ends with the last session: logind keeps a file for each that lingers
// (loginctl(1), enable-linger).
func SessionsOnly(name string) bool {
	_, err := os.Stat(filepath.Join("/var/lib/systemd/linger", name))
	return errors.Is(err, fs.ErrNotExist)
}

// HomeOf is where a user is at home; "" where that is not known.
func HomeOf(uid int) string {
	account, err := Account(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return account.HomeDir
}

// UserID is the uid of the user that a unit's User= names, by name or number; -1 where there is none.
func UserID(name string) int {
	account, err := Account(name)
	if err != nil {
		return -1
	}
	uid, err := strconv.Atoi(account.Uid)
	if err != nil {
		return -1
	}
	return uid
}
