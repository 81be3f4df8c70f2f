package read

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/test/fixtures"
)

// other is a user that is not root.
const other = 1234

// home is a folder of other's, into which everybody can look.
func home(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	for above := folder; above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	give(t, folder)
	return folder
}

// give makes a file other's.
func give(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("needs root, which has more to fear: make test")
	}
	if err := os.Lchown(path, other, other); err != nil {
		t.Fatal(err)
	}
}

// both runs a test as root and as the user whose files they are.
func both(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	t.Run("root", test)
	t.Run("its user", func(t *testing.T) { fixtures.As(t, other, func() { test(t) }) })
}

// soon fails if f takes longer than anything here may, on a busy machine too: what has no bound takes for ever.
func soon(t *testing.T, f func()) {
	t.Helper()
	begun := time.Now()
	f()
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKinds: whatever lies there instead of a file is told at once, whoever reads.
func TestKinds(t *testing.T) {
	folder := home(t)
	at := func(name string) string { return filepath.Join(folder, name) }
	const limit = 1 << 20

	must(t, os.Mkdir(at("folder"), 0o755))
	must(t, unix.Mkfifo(at("pipe"), 0o644))
	must(t, unix.Mkfifo(at("held"), 0o644))
	writer, err := os.OpenFile(at("held"), os.O_RDWR, 0)
	must(t, err)
	defer writer.Close()
	listener, err := net.Listen("unix", at("socket"))
	must(t, err)
	defer listener.Close()
	must(t, unix.Mknod(at("zero"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))))
	sparse, err := os.Create(at("sparse"))
	must(t, err)
	must(t, sparse.Truncate(8<<40))
	must(t, sparse.Close())
	must(t, os.WriteFile(at("full"), make([]byte, limit), 0o644))
	must(t, os.WriteFile(at("more"), make([]byte, limit+1), 0o644))
	must(t, os.WriteFile(at("secret"), nil, 0o600))
	must(t, os.WriteFile(at("leased"), nil, 0o644))
	leased, err := os.OpenFile(at("leased"), os.O_RDWR, 0)
	must(t, err)
	defer leased.Close()
	_, err = unix.FcntlInt(leased.Fd(), unix.F_SETLEASE, unix.F_WRLCK)
	must(t, err)

	unnamed, end, err := os.Pipe()
	must(t, err)
	defer unnamed.Close()
	defer end.Close()

	tests := []struct{ path, want string }{
		{fmt.Sprintf("/proc/self/fd/%d", unnamed.Fd()), "is a named pipe: put a regular file there"},
		{at("folder"), "is a directory: put a regular file there"},
		{at("pipe"), "is a named pipe: put a regular file there"},
		{at("held"), "is a named pipe: put a regular file there"},
		{at("socket"), "is a socket: put a regular file there"},
		{at("zero"), "is a device: put a regular file there"},
		{"/dev/zero", "is a device: put a regular file there"},
		{at("sparse"), "is bigger than 1 MiB: it is another file than was meant, or has to become shorter"},
		{at("more"), "is bigger than 1 MiB: it is another file than was meant, or has to become shorter"},
		{at("leased"), "is kept by another process (a lease): try again when that has let go of it"},
		{"/proc/kmsg", "is made by the kernel as it is read (as in /proc): put a regular file there"},
		{"/proc/self/environ", "is made by the kernel as it is read (as in /proc): put a regular file there"},
		{"/sys/kernel/uevent_seqnum", "is made by the kernel as it is read (as in /proc): put a regular file there"},
		{at("full"), ""},
	}
	for _, test := range tests {
		t.Run(filepath.Base(test.path), func(t *testing.T) {
			both(t, func(t *testing.T) {
				soon(t, func() {
					_, _, err := File(test.path, limit)
					if want := test.path + " " + test.want; test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != want) {
						t.Errorf("error %v\nwant  %s", err, want)
					}
				})
			})
		})
	}
	if content, info, err := File(at("full"), limit); len(content) != limit || err != nil || info.Size() != limit {
		t.Errorf("a file of the full size: %d bytes, %v", len(content), err)
	}
	for _, path := range []string{"", at("none"), at("full") + "/none", at("none") + "/none", "/\x00"} {
		both(t, func(t *testing.T) {
			if _, _, err := File(path, limit); err == nil || path != "/\x00" && !strings.Contains(path, "full/") && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%q: %v", path, err)
			}
		})
	}
	fixtures.As(t, other, func() {
		if _, _, err := File(at("secret"), limit); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("a file that this user may not read: %v", err)
		}
	})
}

// TestGrowing: a file may become longer than it was while it is read, and shorter.
func TestGrowing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, make([]byte, 100), 0o600))
	found, _, err := locate(path)
	must(t, err)
	defer found.Close()
	fd, err := reopen(found, path, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, os.Truncate(path, 1<<30))
	content, err := readAll(fd, 100, 5000)
	if len(content) != 5001 || err != nil {
		t.Errorf("%d bytes in %d, %v", len(content), cap(content), err)
	}
}

// TestLinks: root follows its own links and no others'; everybody else follows all.
func TestLinks(t *testing.T) {
	theirs := home(t)
	roots := filepath.Join(t.TempDir(), "roots")
	must(t, os.Mkdir(roots, 0o755))
	shared := filepath.Join(roots, "shared")
	must(t, os.Mkdir(shared, 0o755))
	must(t, os.Chmod(shared, 0o777))
	sticky := filepath.Join(roots, "sticky")
	must(t, os.Mkdir(sticky, 0o755))
	must(t, os.Chmod(sticky, 0o777|fs.ModeSticky))
	for above := roots; above != os.TempDir() && above != "/"; above = filepath.Dir(above) {
		must(t, os.Chmod(above, 0o755))
	}
	for _, folder := range []string{theirs, roots} {
		must(t, os.WriteFile(filepath.Join(folder, "file"), []byte(folder), 0o644))
		must(t, os.Mkdir(filepath.Join(folder, "v1"), 0o755))
		must(t, os.WriteFile(filepath.Join(folder, "v1/file"), []byte(folder), 0o644))
	}
	link := func(target, path string, owner int) string {
		t.Helper()
		must(t, os.Symlink(target, path))
		must(t, os.Lchown(path, owner, owner))
		return path
	}
	link("v1", theirs+"/..data", other) // as Kubernetes mounts a ConfigMap
	link("v1", roots+"/..data", 0)
	link(roots, theirs+"/roots", other)

	tests := map[string]struct {
		path string
		root bool // follows it
	}{
		"no link":                         {theirs + "/file", true},
		"no link, with dots":              {theirs + "/./v1/../file", true},
		"their link to their file":        {link("file", theirs+"/stow", other), false},
		"their link to root's file":       {link(roots+"/file", theirs+"/shadow", other), false},
		"root's link in their folder":     {link(roots+"/file", theirs+"/moved", 0), false},
		"their folder is a link":          {theirs + "/roots/file", false},
		"and dots lead out of it":         {theirs + "/v1/../roots/file", false},
		"Kubernetes, theirs":              {link("..data/file", theirs+"/config.yaml", other), false},
		"Kubernetes, root's":              {link("..data/file", roots+"/config.yaml", 0), true},
		"root's link to their file":       {link(theirs+"/file", roots+"/their-file", 0), true},
		"root's link to their link":       {link(theirs+"/stow", roots+"/their-link", 0), false},
		"root's link to their folder":     {link(theirs, roots+"/home", 0) + "/stow", false},
		"through root's link, no other":   {roots + "/home/file", true},
		"root's dangling way up":          {link("../"+filepath.Base(roots)+"/file", roots+"/up", 0), true},
		"their link in root's folder":     {link("file", roots+"/given", other), false},
		"their link where all may write":  {link(roots+"/file", sticky+"/theirs", other), false},
		"root's where all may write":      {link(roots+"/file", sticky+"/roots", 0), true},
		"root's where all may replace it": {link(roots+"/file", shared+"/roots", 0), false},
		"a file where all may replace it": {shared + "/file", true},
	}
	must(t, os.WriteFile(shared+"/file", []byte("x"), 0o644))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			content, _, err := File(test.path, 1000)
			switch {
			case test.root && (err != nil || len(content) == 0):
				t.Errorf("root: %q, %v", content, err)
			case !test.root && (!errors.Is(err, ErrLink) || !strings.HasPrefix(err.Error(), test.path+": ")):
				t.Errorf("root follows the link to %q, %v", content, err)
			}
			fixtures.As(t, other, func() {
				if content, _, err := File(test.path, 1000); err != nil || len(content) == 0 {
					t.Errorf("its user: %q, %v", content, err)
				}
			})
		})
	}
	link("loop", roots+"/loop", 0)
	both(t, func(t *testing.T) {
		if _, _, err := File(roots+"/loop", 1000); !errors.Is(err, unix.ELOOP) {
			t.Errorf("a link to itself: %v", err)
		}
	})
	t.Chdir(roots)
	if content, _, err := File("../roots/config.yaml", 1000); string(content) != roots || err != nil {
		t.Errorf("from the working directory: %q, %v", content, err)
	}
	t.Chdir(theirs)
	if _, _, err := File("stow", 1000); !errors.Is(err, ErrLink) {
		t.Errorf("from the working directory of another: %v", err)
	}
}

// TestOwners: a file that has to be somebody's is theirs or root's.
func TestOwners(t *testing.T) {
	theirs := filepath.Join(home(t), "file")
	must(t, os.WriteFile(theirs, nil, 0o644))
	give(t, theirs)
	roots := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(roots, nil, 0o644))
	for _, test := range []struct {
		path   string
		owners []int
		want   string
	}{
		{theirs, nil, ""},
		{theirs, []int{other}, ""},
		{theirs, []int{0, other}, ""},
		{roots, []int{other}, ""},
		{theirs, []int{other + 1}, fmt.Sprintf("%s belongs to uid 1234 and is not read: it should be of uid 1235", theirs)},
	} {
		if _, _, err := File(test.path, 10, test.owners...); test.want == "" && err != nil || test.want != "" && (err == nil || err.Error() != test.want) {
			t.Errorf("%s for %v: %v, want %q", test.path, test.owners, err, test.want)
		}
	}
}

// TestDescriptors: none is left open, whatever was found.
func TestDescriptors(t *testing.T) {
	folder := home(t)
	must(t, os.Symlink("file", folder+"/link"))
	must(t, os.WriteFile(folder+"/file", nil, 0o644))
	must(t, os.Symlink("/usr/bin", filepath.Join(t.TempDir(), "bin")))
	count := func() int {
		open, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(open)
	}
	before := count()
	for _, path := range []string{
		folder, folder + "/link", folder + "/file", folder + "/file/none", folder + "/none", "/dev/stdin", "/bin/sh", "/dev/zero", "/*",
	} {
		_, _, _ = File(path, 10)
		_, _ = Glob(path + "*/*")
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open, before it were %d", after, before)
	}
}

func TestGlob(t *testing.T) {
	folder := home(t)
	for _, name := range []string{"b.env", "a.env", ".c.env", "d", "[x].env"} {
		must(t, os.WriteFile(filepath.Join(folder, name), nil, 0o644))
	}
	must(t, os.Symlink(".", folder+"/here"))
	give(t, folder+"/here")
	must(t, os.Mkdir(folder+"/closed", 0o700))
	must(t, unix.Mkfifo(folder+"/pipe", 0o644))
	for _, pattern := range []string{"*.env", "?.env", "d", "none", "*", "none/*", "pipe/*", `\[x\].env`, "[!a].env", "*/*.env", "here/*.env", "closed/*"} {
		for _, root := range []bool{true, false} {
			compare := func() {
				got, err := Glob(folder + "/" + pattern)
				want, _ := filepath.Glob(folder + "/" + pattern)
				if root && pattern == "*/*.env" {
					want = nil // into none of others' links
				}
				if root && pattern == "here/*.env" {
					if !errors.Is(err, ErrLink) {
						t.Errorf("%s: root has looked into another's link: %q, %v", pattern, got, err)
					}
					return
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || err != nil {
					t.Errorf("%s: %q, %v\nwant %q", pattern, got, err, want)
				}
			}
			if root {
				compare()
			} else {
				fixtures.As(t, other, compare)
			}
		}
	}
	if _, err := Glob(folder + "/[a"); !errors.Is(err, filepath.ErrBadPattern) {
		t.Errorf("a pattern that is none: %v", err)
	}
	both(t, func(t *testing.T) {
		soon(t, func() {
			for _, pattern := range []string{"/*/*/*/*/*/*/*", "/*/*/*/*/*/*/*/none*"} {
				if found, err := Glob(pattern); err == nil {
					t.Errorf("%s: %d names and no error", pattern, len(found))
				}
			}
			if _, err := Glob("/" + strings.Repeat("*", 256)); err == nil {
				t.Error("a name in the pattern may be of any length")
			}
		})
	})
	many := filepath.Join(t.TempDir(), "many")
	must(t, os.Mkdir(many, 0o755))
	must(t, os.Chmod(filepath.Dir(many), 0o755))
	must(t, os.Chmod(filepath.Dir(filepath.Dir(many)), 0o755))
	for i := range 100 {
		must(t, os.Symlink(".", fmt.Sprintf("%s/%d", many, i)))
	}
	if found, err := Glob(many + "/*"); len(found) != 100 || err != nil {
		t.Errorf("a folder of 100: %d, %v", len(found), err)
	}
	if _, err := Glob(many + "/*/*/none*"); err == nil || !strings.Contains(err.Error(), "looks at more than 10000 names: write out more of it") {
		t.Errorf("a hundred folders of 100: %v", err)
	}
}

// TestResolve: a path that takes a minute name by name, because each of its links goes in and out of a deep folder again and again.
func TestResolve(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	deep := filepath.Join(base, strings.Repeat("d/", 1000))
	if err := os.MkdirAll(filepath.Join(deep, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	link := func(name, target string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(deep, name)); err != nil {
			t.Fatal(err)
		}
	}
	const links = 200
	for i := range links {
		link(fmt.Sprint("link", i), strings.Repeat("x/../", 800)+fmt.Sprint("link", i+1))
	}
	link(fmt.Sprint("link", links), "x")
	for from, want := range map[int]string{0: "", links - 30: filepath.Join(deep, "x")} {
		soon(t, func() {
			got, err := Resolve(filepath.Join(deep, fmt.Sprint("link", from)))
			if (err == nil) != (want != "") || got != want {
				t.Errorf("from link %d: %.50s, %v", from, got, err)
			}
		})
	}
}
