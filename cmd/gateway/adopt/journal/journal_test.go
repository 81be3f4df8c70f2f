package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scene is a folder of units as an adoption meets it.
type scene struct{ base, units, etc string }

func newScene(t *testing.T) scene {
	t.Helper()
	root := t.TempDir()
	s := scene{base: root + "/journals", units: root + "/units", etc: root + "/etc"}
	s.write(t, "openclaw-gateway.service", "[Service]\nExecStart=/old\n", 0o640)
	s.write(t, "openclaw-gateway.service.d/memory.conf", "[Service]\nMemoryMax=2G\n", 0o644)
	s.write(t, "openclaw-gateway.service.d/deep/below", "is nobody's\n", 0o600)
	if err := os.MkdirAll(s.units+"/default.target.wants", 0o750); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{
		"default.target.wants/openclaw-gateway.service": "../openclaw-gateway.service", "alias.service": "/nowhere",
	} {
		if err := os.Symlink(target, filepath.Join(s.units, link)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s scene) write(t *testing.T, name, content string, mode fs.FileMode) {
	t.Helper()
	path := filepath.Join(s.units, name)
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, []byte(content), mode)
	}
	if err == nil {
		err = os.Chtimes(path, time.Time{}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// all is everything that is there, but for the journal.
func (s scene) all(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(filepath.Dir(s.units), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == filepath.Dir(s.units) {
			return err
		}
		if path == s.base {
			return fs.SkipDir
		}
		state, _, err := look(path)
		if all[path] = fmt.Sprintf("%+v", state); err != nil { // what is refused
			all[path] = entry.Type().String()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

const instance = "openclaw-gateway"

// adopt is a whole adoption, as far as files go.
func (s scene) adopt() error {
	j, err := Open(s.base, instance)
	if err != nil {
		return err
	}
	defer j.Close()
	if err := j.Begin(Record{Scope: "user", Old: Unit{Name: "openclaw-gateway.service", Active: "active"}}); err != nil {
		return err
	}
	aside := []string{
		s.units + "/default.target.wants/openclaw-gateway.service", s.units + "/alias.service",
		s.units + "/openclaw-gateway.service", s.units + "/openclaw-gateway.service.d",
	}
	err = j.Keep(append([]string{s.etc + "/openclaw-gateway/config.yaml"}, aside...)...)
	uid, gid := os.Geteuid(), os.Getegid()
	write := func(path, content string, mode fs.FileMode) {
		if err == nil {
			err = j.Write(path, []byte(content), mode, uid, gid)
		}
	}
	write(s.etc+"/openclaw-gateway/config.yaml", "worker: {}\n", 0o600)
	replace := func() error {
		for _, path := range aside {
			if err == nil {
				err = j.Remove(path)
			}
		}
		write(s.units+"/openclaw-gateway.service.d/50-adopted.conf", "[Service]\n", 0o644)
		write(s.units+"/openclaw-gateway.service", "ours\n", 0o644)
		if err == nil {
			err = j.Link(s.units+"/clawdbot.service", os.DevNull)
		}
		return err
	}
	if err == nil {
		err = j.Intend(replace)
	}
	if err == nil {
		err = j.Hurry(replace)
	}
	if err == nil {
		err = j.Settle()
	}
	if err != nil {
		return err
	}
	return j.Enter(Adopted)
}

func (s scene) undo(tell func(Restored)) error {
	j, err := Open(s.base, instance)
	if err != nil {
		return err
	}
	defer j.Close()
	if err := j.Enter(Undoing); err != nil {
		return err
	}
	if err := j.Restore(tell); err != nil {
		return err
	}
	return j.Enter(Undone)
}

func nothing(t *testing.T) func(Restored) {
	return func(r Restored) { t.Errorf("it was told that %+v", r) }
}

func check(t *testing.T, got, want map[string]string) {
	t.Helper()
	for path := range want {
		if got[path] != want[path] {
			t.Errorf("%s is %s, want %s", path, got[path], want[path])
		}
	}
	for path := range got {
		if _, was := want[path]; !was {
			t.Errorf("%s is there: %s", path, got[path])
		}
	}
}

func TestThereAndBack(t *testing.T) {
	s := newScene(t)
	before := s.all(t)
	for range 2 {
		if err := s.adopt(); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(s.units + "/openclaw-gateway.service"); err != nil || string(content) != "ours\n" {
			t.Errorf("our unit: %q %v", content, err)
		}
		if _, err := os.Lstat(s.units + "/openclaw-gateway.service.d/memory.conf"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the old drop-in is there: %v", err)
		}
		kept := filepath.Join(s.base, instance, beforeFolder, s.units, "openclaw-gateway.service")
		if content, err := os.ReadFile(kept); err != nil || !strings.Contains(string(content), "/old") {
			t.Errorf("%s: %q %v", kept, content, err)
		}
		if pending := Pending(s.base); pending != nil {
			t.Errorf("unfinished: %v", pending)
		}
		if err := s.undo(nothing(t)); err != nil {
			t.Fatal(err)
		}
		check(t, s.all(t), before)
		if record, err := Look(s.base, instance); err != nil || record.Phase != Undone {
			t.Errorf("the record: %+v %v", record, err)
		}
	}
}

// TestInterrupted kills an adoption, and what takes it back, at each of its steps.
func TestInterrupted(t *testing.T) {
	if at, err := strconv.Atoi(os.Getenv("KILLED_AT")); err == nil {
		s := scene{base: os.Getenv("BASE"), units: os.Getenv("UNITS"), etc: os.Getenv("ETC")}
		step = func() {
			if at--; at == 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
		if os.Getenv("UNDO") != "" {
			t.Fatal(s.undo(func(Restored) {}))
		}
		t.Fatal(s.adopt())
	}
	killed := func(s scene, at int, undo string) bool {
		cmd := exec.Command(os.Args[0], "-test.run=^TestInterrupted$")
		cmd.Env = append(os.Environ(), fmt.Sprint("KILLED_AT=", at), "BASE="+s.base, "UNITS="+s.units, "ETC="+s.etc, "UNDO="+undo)
		_ = cmd.Run()
		return cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
	}
	steps := map[string]int{}
	for _, undo := range []string{"", "undo"} {
		for at := 1; ; at++ {
			s := newScene(t)
			before := s.all(t)
			if undo != "" {
				if err := s.adopt(); err != nil {
					t.Fatal(err)
				}
			}
			if !killed(s, at, undo) {
				break
			}
			steps[undo]++
			record, err := Look(s.base, instance)
			if err == nil && record.Phase.Unfinished() {
				if pending := Pending(s.base); len(pending) != 1 || pending[0].Instance != instance || pending[0].Undoing != (record.Phase == Undoing) {
					t.Errorf("unfinished after step %d of %q: %v", at, undo, pending)
				}
			}
			if err != nil && !errors.Is(err, ErrNone) {
				t.Errorf("after step %d of %q: %v", at, undo, err)
			}
			if errors.Is(err, ErrNone) {
				continue
			}
			if record.Phase != Undone {
				if err := s.undo(nothing(t)); err != nil {
					t.Errorf("after step %d of %q: %v", at, undo, err)
				}
			}
			check(t, s.all(t), before)
			if t.Failed() {
				t.Fatalf("after step %d of %q", at, undo)
			}
		}
	}
	if steps[""] < 20 || steps["undo"] < 15 {
		t.Errorf("there were %v steps: the test has lost its subject", steps)
	}
	t.Logf("killed at %v steps", steps)
}

func TestEdited(t *testing.T) {
	s := newScene(t)
	if err := s.adopt(); err != nil {
		t.Fatal(err)
	}
	configuration := s.etc + "/openclaw-gateway/config.yaml"
	for _, path := range []string{configuration, s.units + "/openclaw-gateway.service"} {
		if err := os.WriteFile(path, []byte("mine\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, "openclaw-gateway.service.d/override.conf", "mine too\n", 0o600)
	told := map[string]Restored{}
	if err := s.undo(func(r Restored) { told[r.Path] = r }); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{configuration, s.units + "/openclaw-gateway.service"} {
		content, err := os.ReadFile(told[path].Edited)
		if err != nil || string(content) != "mine\n" {
			t.Errorf("%s is kept in %+v: %q %v", path, told[path], content, err)
		}
	}
	if _, err := os.Lstat(configuration); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the configuration: %v", err)
	}
	if content, err := os.ReadFile(s.units + "/openclaw-gateway.service.d/override.conf"); err != nil || string(content) != "mine too\n" {
		t.Errorf("a drop-in that was written meanwhile: %q %v", content, err)
	}
	if content, _ := os.ReadFile(s.units + "/openclaw-gateway.service"); !strings.Contains(string(content), "/old") {
		t.Errorf("the old unit: %q", content)
	}
}

// TestPurged: the removal of the Debian package with all that it has made leaves what it has kept of somebody's, and that alone.
func TestPurged(t *testing.T) {
	again := func(s scene) error { // a second adoption is being carried out
		j, err := Open(s.base, instance)
		if err != nil {
			return err
		}
		defer j.Close()
		return j.Begin(Record{})
	}
	undo := func(s scene) error { return s.undo(nothing(t)) }
	edit := func(s scene) error {
		return os.WriteFile(s.units+"/openclaw-gateway.service", []byte("mine\n"), 0o600)
	}
	undoEdited := func(s scene) error { return s.undo(func(Restored) {}) }
	drop := func(s scene) error {
		j, err := Open(s.base, instance)
		if err != nil {
			return err
		}
		defer j.Close()
		return errors.Join(j.Begin(Record{}), j.Drop())
	}
	for name, test := range map[string]struct {
		steps []func(scene) error
		unit  string // one that is there
		stays bool
	}{
		"adopted":                   {[]func(scene) error{scene.adopt}, "claw", true},
		"given back":                {[]func(scene) error{scene.adopt, undo}, "claw", false},
		"given back, named as ours": {[]func(scene) error{scene.adopt, undo}, instance, false},
		"given back, edited":        {[]func(scene) error{scene.adopt, edit, undoEdited}, "claw", true},
		"interrupted":               {[]func(scene) error{scene.adopt, undo, again}, "claw", true},
		"changed nothing":           {[]func(scene) error{drop}, "claw", false},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			s := newScene(t)
			s.base = root + "/var/lib/openclaw-gateway.adopt"
			for _, step := range test.steps {
				if err := step(s); err != nil {
					t.Fatal(err)
				}
			}
			system := root + "/etc/systemd/system"
			if err := errors.Join(os.MkdirAll(system, 0o755), os.WriteFile(filepath.Join(system, test.unit+".service"), nil, 0o644)); err != nil {
				t.Fatal(err)
			}
			before, err := exec.Command("find", s.base+"/"+instance).Output()
			if err != nil {
				t.Fatal(err)
			}
			purge := exec.Command("sh", "../../../../packaging/deb/postrm", "purge")
			purge.Env = append(os.Environ(), "DPKG_ROOT="+root)
			said, err := purge.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, said)
			}
			after, _ := exec.Command("find", s.base+"/"+instance).Output()
			_, baseErr := os.Lstat(s.base)
			if test.stays && string(after) != string(before) || !test.stays && baseErr == nil || strings.Contains(string(said), s.base) != test.stays {
				t.Errorf("it says %q, and of\n%s there is\n%s", said, before, after)
			}
		})
	}
}

// TestUntouched: what was kept and never changed is left as it is now, whoever has changed it.
func TestUntouched(t *testing.T) {
	s := newScene(t)
	j, err := Open(s.base, instance)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	if err := errors.Join(j.Begin(Record{}), j.Keep(s.units+"/openclaw-gateway.service")); err != nil {
		t.Fatal(err)
	}
	s.write(t, "openclaw-gateway.service", "mine\n", 0o644)
	if err := j.Restore(nothing(t)); err != nil {
		t.Fatal(err)
	}
	if content, _ := os.ReadFile(s.units + "/openclaw-gateway.service"); string(content) != "mine\n" {
		t.Errorf("it is %q", content)
	}
}

func TestOneAtATime(t *testing.T) {
	s := newScene(t)
	j, err := Open(s.base, instance)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.base, "openclaw-gateway-work"); !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second one: %v", err)
	}
	j.Close()
	again, err := Open(s.base, instance)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// TestRefused: what cannot be kept is refused before anything is changed.
func TestRefused(t *testing.T) {
	for what, spoil := range map[string]func(path string) error{
		"neither a file": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"more than":      func(path string) error { return manyFiles(path) },
		"bigger than":    func(path string) error { return os.WriteFile(path, make([]byte, fileLimit+1), 0o600) },
	} {
		s := newScene(t)
		if err := spoil(s.units + "/openclaw-gateway.service.d/spoilt"); err != nil {
			t.Fatal(err)
		}
		before := s.all(t)
		if err := s.adopt(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
		check(t, s.all(t), before)
	}
}

func manyFiles(path string) error {
	err := os.Mkdir(path, 0o755)
	for n := 0; n <= namesLimit && err == nil; n++ {
		err = os.WriteFile(filepath.Join(path, fmt.Sprint(n)), nil, 0o600)
	}
	return err
}

func TestOthersJournal(t *testing.T) {
	s := newScene(t)
	if err := os.Mkdir(s.base, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.base, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.base, instance); err == nil {
		t.Error("a journal that everybody can write to is taken")
	}
}

func TestOthersBase(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to give a directory away: make test")
	}
	state := t.TempDir()
	t.Setenv("XDG_STATE_HOME", state)
	base, err := Base(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(base, 0o711), os.Chown(base, 4711, 4711)); err != nil {
		t.Fatal(err)
	}
	if _, err := Base(true); err == nil || !strings.Contains(err.Error(), "4711") {
		t.Errorf("another user's journals: %v", err)
	}
}
