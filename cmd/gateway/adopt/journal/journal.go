package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/read"
)

// Phase is how far an adoption has come.
type Phase string

// The phases.
const (
	Going   Phase = "going"   // it is being carried out, or was interrupted
	Adopted Phase = "adopted" // it is complete
	Undoing Phase = "undoing" // it is being taken back, or that was interrupted
	Undone  Phase = "undone"
)

// Unfinished reports whether there is something to do before anything else.
func (p Phase) Unfinished() bool { return p == Going || p == Undoing }

// Record is an adoption. Everything that is in it has been done, or may have been.
type Record struct {
	Version int       `json:"version"`
	Phase   Phase     `json:"phase"`
	Begun   time.Time `json:"begun"`
	Ended   time.Time `json:"ended,omitzero"` // when it was complete first, or in the end taken back

	Instance string `json:"instance"` // of ours; "" for the default one
	Scope    string `json:"scope"`    // system or user
	Old      Unit   `json:"old"`
	Rivals   []Unit `json:"rivals,omitempty"`
	// Companions are the units that ran and are stopped with those, as they depend on them.
	Companions []Unit `json:"companions,omitempty"`

	Changes []Change `json:"changes"` // in the order in which they were made

	// Ours are our units, from when they may be known to systemd.
	Ours []string `json:"ours,omitempty"`
	// NoState says that the launcher's state directory was not there.
	NoState bool `json:"no_state,omitempty"`
	// Linger is the user for whom lingering was enabled, and was not before.
	Linger string `json:"linger,omitempty"`
	// DotEnv is OpenClaw's file into which the line was put, and whose it is.
	DotEnv    string `json:"dot_env,omitempty"`
	DotEnvUID int    `json:"dot_env_uid,omitempty"`
	// Moved is what was made for another user than the old one's; nil: nothing.
	Moved *Moved `json:"moved,omitempty"`
}

// Moved is a copy of the old one's state, and its user.
type Moved struct {
	User string `json:"user"`
	UID  int    `json:"uid"`
	Made bool   `json:"made,omitempty"` // the user was not there
	To   string `json:"to,omitempty"`   // where the copy is; "" where none has been begun
}

// Unit is one that was stopped.
type Unit struct {
	Name   string `json:"name"`
	Active string `json:"active"` // its ActiveState before
}

// version is of the record's form.
const version = 1

// ErrBusy is wrapped by the error of whoever comes second.
var ErrBusy = errors.New("another adoption is under way")

// ErrNone is wrapped by the error that there is no adoption.
var ErrNone = errors.New("there is no adoption")

// Base is where the journals of a scope lie: root's, or those of the user who asks. No instance has that name, which has a dot.
// It fails where a user has no home, or where that is another user's.
func Base(user bool) (string, error) {
	const name = "openclaw-gateway.adopt"
	if !user {
		return filepath.Join("/var/lib", name), nil
	}
	state := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find where the journal of an adoption lies: %w", err)
		}
		state = filepath.Join(home, ".local/state")
	}
	base := filepath.Join(state, name)
	// As under sudo that keeps HOME.
	if info, err := os.Lstat(base); err == nil && read.Owner(info) != os.Geteuid() {
		return "", fmt.Errorf("%s is of user id %d, and this runs as %d: run it as that user, or with a HOME of your own", base, read.Owner(info), os.Geteuid())
	}
	return base, nil
}

// Names in the folder of a journal. The name of the record tells everybody whether there is something to do: what is in it is
// its owner's.
const (
	unfinishedFile = "unfinished.json"
	finishedFile   = "finished.json"
	beforeFolder   = "before"
	editedFolder   = "edited"
	lockFile       = "lock"
)

// Journal is the journal of one instance, locked.
type Journal struct {
	Record
	folder *os.Root
	lock   *os.File

	pace    int
	hurried []string // the paths that were changed in a hurry
}

// Open locks the journal of an instance below a base, and makes it if there is none. The instance is named as its units are, without
// their suffix. The error wraps [ErrBusy] where another process has it.
func Open(base, instance string) (*Journal, error) {
	path := filepath.Join(base, instance)
	// Everybody may see that there is something to do, and nothing else.
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("make the journal of the adoption: %w", err)
	}
	if err := checkBase(base); err != nil {
		return nil, err
	}
	folder, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the journal of the adoption: %w", err)
	}
	j := &Journal{folder: folder}
	if err = j.acquire(base); err == nil {
		err = j.load()
	}
	if err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

// checkBase fails if others than the caller and root can put something else in place of the journals.
func checkBase(base string) error {
	if os.Geteuid() == 0 {
		if others, is := errors.AsType[*read.OthersError](read.OnlyRoots(base)); is {
			return fmt.Errorf("root keeps no journal where others write: %w", others)
		}
	}
	info, err := os.Lstat(base)
	switch {
	case err != nil:
		return fmt.Errorf("look at the journal of the adoption: %w", err)
	case !info.IsDir() || read.Owner(info) != os.Geteuid() || info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s is not a directory that only uid %d can write to (%s): move it away, then run this again", base, os.Geteuid(), info.Mode())
	}
	return nil
}

// acquire takes the lock of all journals of the scope: two adoptions at a time would be in each other's way.
func (j *Journal) acquire(base string) error {
	lock, err := os.OpenFile(filepath.Join(base, lockFile), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("lock the journal of the adoption: %w", err)
	}
	j.lock = lock
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		who := make([]byte, 32)
		n, _ := lock.Read(who)
		return fmt.Errorf("%w, by pid %s: wait for it, or end it, which has it put back what it has changed", ErrBusy, strings.TrimSpace(string(who[:n])))
	}
	if err != nil {
		return fmt.Errorf("lock the journal of the adoption: %w", err)
	}
	if err := lock.Truncate(0); err == nil {
		_, _ = fmt.Fprintln(lock, os.Getpid()) // it is for a person
	}
	return nil
}

// Close lets go of the lock.
func (j *Journal) Close() {
	if j.lock != nil {
		_ = j.lock.Close()
	}
	_ = j.folder.Close()
}

// Path is where the journal lies.
func (j *Journal) Path() string { return j.folder.Name() }

// Before is the folder in which the old files are kept.
func (j *Journal) Before() string { return filepath.Join(j.Path(), beforeFolder) }

func (j *Journal) load() error {
	record, err := readRecord(j.folder, unfinishedFile)
	if errors.Is(err, fs.ErrNotExist) {
		record, err = readRecord(j.folder, finishedFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	j.Record = record
	return err
}

func readRecord(folder *os.Root, name string) (record Record, err error) {
	text, err := folder.ReadFile(name)
	if err != nil {
		return record, err
	}
	at := filepath.Join(folder.Name(), name)
	if err := json.Unmarshal(text, &record); err != nil {
		return record, fmt.Errorf("read the journal of an adoption, %s: %w", at, err)
	}
	if record.Version != version {
		return record, fmt.Errorf("%s was written by another version of this program (%d, this one knows %d): use that one", at, record.Version, version)
	}
	return record, nil
}

// Begin starts the record of an adoption, in place of what was there of one that is over. What that has kept stays only if it is
// somebody's edit.
func (j *Journal) Begin(record Record) error {
	if j.Phase.Unfinished() || j.Phase == Adopted {
		return fmt.Errorf("the journal %s is in use: %s", j.Path(), j.Phase)
	}
	if err := j.folder.RemoveAll(beforeFolder); err != nil {
		return fmt.Errorf("empty the journal of the adoption: %w", err)
	}
	record.Version, record.Phase, record.Begun = version, Going, time.Now()
	j.Record = record
	return j.Save()
}

// Enter writes down that the adoption has come to another phase.
func (j *Journal) Enter(phase Phase) error {
	j.Phase = phase
	if !phase.Unfinished() {
		j.Ended = time.Now()
	}
	if phase != Undone {
		return j.Save()
	}
	// All of it is back: what was kept makes room, and what is left to say can be left out.
	if err := j.folder.RemoveAll(beforeFolder); err != nil {
		return fmt.Errorf("empty the journal of the adoption: %w", err)
	}
	if err := j.Save(); err != nil {
		return errors.Join(j.folder.Remove(unfinishedFile), syncFolder(j.folder, "."))
	}
	return nil
}

// Untouched reports whether nothing has been changed yet.
func (j *Journal) Untouched() bool {
	changed := slices.ContainsFunc(j.Changes, func(c Change) bool { return !c.After.same(c.Before) })
	return j.Phase == Going && !changed && len(j.Ours) == 0 && j.Linger == "" && j.DotEnv == "" && j.Moved == nil
}

// Drop forgets an adoption that has changed nothing. It needs no room on the disk.
func (j *Journal) Drop() error {
	j.Record = Record{}
	if err := errors.Join(j.folder.Remove(unfinishedFile), j.folder.RemoveAll(beforeFolder)); err != nil {
		return fmt.Errorf("empty the journal of the adoption: %w", err)
	}
	return nil
}

// Save writes the record down, on the disk when it returns.
func (j *Journal) Save() error {
	text, err := json.MarshalIndent(j.Record, "", "  ")
	if err != nil {
		return fmt.Errorf("write the journal of the adoption: %w", err)
	}
	name, other := finishedFile, unfinishedFile
	if j.Phase.Unfinished() {
		name, other = other, name
	}
	err = writeFile(j.folder, name, append(text, '\n'), private(), true)
	if err == nil {
		// Of two the unfinished one counts.
		if err = j.folder.Remove(other); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = syncFolder(j.folder, ".")
	}
	if err != nil {
		return fmt.Errorf("write the journal of the adoption: %w", err)
	}
	return nil
}

// Half is an adoption that was interrupted, or whose end was.
type Half struct {
	Instance string // named as its units are
	Old      string // the unit; "" for whoever may not read that
	Since    time.Time
	Undoing  bool
	Unsure   bool // it may be under way: who is not its owner cannot tell
}

// Is tells how it stands, behind the name.
func (h Half) Is() string {
	if h.Unsure {
		return "is under way, or was interrupted"
	}
	return "was interrupted"
}

func (h Half) String() string {
	what := h.Old
	if what == "" {
		what = "what is " + h.Instance + " now"
	}
	if h.Undoing {
		return "taking back the adoption of " + what
	}
	return "the adoption of " + what
}

// Undo is the command line that puts back what was there.
func (h Half) Undo(program, scope string) []string {
	argv := []string{program, "adopt", "--undo", "--" + scope}
	if _, name, named := strings.Cut(h.Instance, "openclaw-gateway-"); named {
		argv = append(argv, "--name", name)
	}
	return argv
}

// Pending returns what was interrupted below a base. Whoever may not read the base is told of those that are named, as their units
// are, and of one that is being carried out at the moment, too.
func Pending(base string, known ...string) (all []Half) {
	lock, locking := os.Open(filepath.Join(base, lockFile))
	if locking == nil {
		defer lock.Close()
		if unix.Flock(int(lock.Fd()), unix.LOCK_SH|unix.LOCK_NB) != nil {
			return nil // it is being carried out
		}
	}
	if entries, err := os.ReadDir(base); err == nil {
		known = nil
		for _, entry := range entries {
			known = append(known, entry.Name())
		}
	}
	for _, instance := range known {
		info, err := os.Lstat(filepath.Join(base, instance, unfinishedFile))
		if err != nil {
			continue
		}
		half := Half{Instance: instance, Since: info.ModTime(), Unsure: errors.Is(locking, fs.ErrPermission)}
		if record, err := Look(base, instance); err == nil {
			half.Old, half.Since, half.Undoing = record.Old.Name, record.Begun, record.Phase == Undoing
		}
		all = append(all, half)
	}
	return all
}

// Look reads the record of an instance without the lock. The error wraps [ErrNone] where there is none.
func Look(base, instance string) (Record, error) {
	folder, err := os.OpenRoot(filepath.Join(base, instance))
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, ErrNone
	}
	if err != nil {
		return Record{}, fmt.Errorf("open the journal of an adoption: %w", err)
	}
	defer folder.Close()
	j := Journal{folder: folder}
	if err := j.load(); err != nil {
		return Record{}, err
	}
	if j.Version == 0 {
		return Record{}, ErrNone
	}
	return j.Record, nil
}

// All returns the instances below a base that have a record, named as their units are.
func All(base string) (instances []string) {
	entries, _ := os.ReadDir(base)
	for _, entry := range entries {
		if record, err := Look(base, entry.Name()); entry.IsDir() && (err != nil && !errors.Is(err, ErrNone) || record.Version != 0) {
			instances = append(instances, entry.Name())
		}
	}
	return instances
}
