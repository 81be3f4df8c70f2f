package watch

import (
	"os"
	"path/filepath"
	"testing"
)

const (
	before = "level: before\n"
	after  = "level: after\n"
)

// TestEdits saves a file once in every way that is known, and wants one call.
func TestEdits(t *testing.T) {
	tests := []struct {
		name  string
		path  string                               // of the file below the test's directory, config.yaml if empty
		setUp func(t *testing.T, path, dir string) // the file with the content before, unless nil
		edit  func(t *testing.T, path, dir string) // leads to the content after
		then  func(t *testing.T, path, dir string) // an edit that follows, in place, if not nil
	}{
		{
			name: "written in place",
			edit: func(t *testing.T, path, _ string) { write(t, path, after) },
		},
		{
			name: "another file renamed over it",
			edit: func(t *testing.T, path, _ string) { replace(t, path, after) },
		},
		{
			name: "vim without a backup, VS Code: in place, the mode set afterwards",
			edit: func(t *testing.T, path, _ string) {
				file := writer(t, path)
				put(t, file, after)
				if err := file.Chmod(0o600); err != nil {
					t.Fatal(err)
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, 0o644); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "vim with a backup: renamed away, a new one written",
			edit: func(t *testing.T, path, dir string) {
				write(t, filepath.Join(dir, "4913"), "") // its trial whether it may write there
				remove(t, filepath.Join(dir, "4913"))
				rename(t, path, path+"~")
				write(t, path, after)
				if err := os.Chmod(path, 0o644); err != nil {
					t.Fatal(err)
				}
				remove(t, path+"~")
			},
		},
		{
			name: "vim with a copy as backup",
			edit: func(t *testing.T, path, _ string) {
				write(t, path+"~", before)
				write(t, path, after)
				remove(t, path+"~")
			},
		},
		{
			name: "emacs: the backup is a hard link",
			edit: func(t *testing.T, path, _ string) {
				if err := os.Link(path, path+"~"); err != nil {
					t.Fatal(err)
				}
				replace(t, path, after)
			},
		},
		{
			name: "sed -i",
			edit: func(t *testing.T, _, dir string) { shell(t, dir, "sed -i s/before/after/ config.yaml") },
		},
		{
			name: "mv",
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > other; mv -f other config.yaml")
			},
		},
		{
			name: "mv from another file system, perhaps",
			edit: func(t *testing.T, path, dir string) {
				other := filepath.Join(t.TempDir(), "other")
				write(t, other, after)
				shell(t, dir, "mv -f "+other+" config.yaml")
			},
		},
		{
			name: "cp",
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > other; cp other config.yaml; rm other")
			},
		},
		{
			name: "cp --remove-destination",
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > other; cp --remove-destination other config.yaml")
			},
		},
		{
			name: "install",
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > other; install -m 0644 other config.yaml")
			},
		},
		{
			name: "removed and a hard link put in its place",
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > other; rm config.yaml; ln other config.yaml; rm other")
			},
		},
		{
			name: "written under another name, that of a hard link in another directory",
			setUp: func(t *testing.T, path, dir string) {
				makeDirectory(t, filepath.Join(dir, "elsewhere"))
				write(t, filepath.Join(dir, "elsewhere", "file"), before)
				if err := os.Link(filepath.Join(dir, "elsewhere", "file"), path); err != nil {
					t.Fatal(err)
				}
			},
			edit: func(t *testing.T, _, dir string) { write(t, filepath.Join(dir, "elsewhere", "file"), after) },
		},
		{
			name:  "made",
			setUp: func(*testing.T, string, string) {},
			edit:  func(t *testing.T, path, _ string) { write(t, path, after) },
		},
		{
			name:  "made with its directories",
			path:  "a/b/c/config.yaml",
			setUp: func(*testing.T, string, string) {},
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "mkdir -p a/b/c; echo 'level: after' > a/b/c/config.yaml")
			},
			then: inPlace,
		},
		{
			name: "removed and made again",
			edit: func(t *testing.T, path, _ string) {
				remove(t, path)
				write(t, path, after)
			},
		},
		{
			name: "removed and made again with its directories",
			path: "a/b/config.yaml",
			edit: func(t *testing.T, path, dir string) {
				remove(t, filepath.Join(dir, "a"))
				makeDirectory(t, filepath.Dir(path))
				write(t, path, after)
			},
			then: inPlace,
		},
		{
			name: "a directory on the way exchanged for another",
			path: "a/b/config.yaml",
			edit: func(t *testing.T, _, dir string) {
				makeDirectory(t, filepath.Join(dir, "new/b"))
				write(t, filepath.Join(dir, "new/b/config.yaml"), after)
				rename(t, filepath.Join(dir, "a"), filepath.Join(dir, "old"))
				rename(t, filepath.Join(dir, "new"), filepath.Join(dir, "a"))
			},
			then: inPlace,
		},
		{
			name: "a directory in the place of a file on the way",
			path: "a/config.yaml",
			setUp: func(t *testing.T, _, dir string) {
				write(t, filepath.Join(dir, "a"), "not a directory")
			},
			edit: func(t *testing.T, path, dir string) {
				remove(t, filepath.Join(dir, "a"))
				makeDirectory(t, filepath.Join(dir, "a"))
				write(t, path, after)
			},
			then: inPlace,
		},
		{
			name:  "the target of a symbolic link written",
			setUp: linked,
			edit:  func(t *testing.T, _, dir string) { write(t, filepath.Join(dir, "one"), after) },
		},
		{
			name:  "the target of a symbolic link replaced",
			setUp: linked,
			edit:  func(t *testing.T, _, dir string) { replace(t, filepath.Join(dir, "one"), after) },
		},
		{
			name:  "ln -sfn",
			setUp: linked,
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > two; ln -sfn two config.yaml")
			},
			then: inPlace,
		},
		{
			name:  "a symbolic link removed and made again",
			setUp: linked,
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "echo 'level: after' > two; rm config.yaml; ln -s \"$PWD/two\" config.yaml")
			},
			then: inPlace,
		},
		{
			name: "a file replaced by a symbolic link to an absolute path elsewhere",
			edit: func(t *testing.T, path, _ string) {
				target := filepath.Join(t.TempDir(), "target")
				write(t, target, after)
				remove(t, path)
				symlink(t, target, path)
			},
			then: inPlace,
		},
		{
			name:  "a symbolic link replaced by a file",
			setUp: linked,
			edit:  func(t *testing.T, path, _ string) { replace(t, path, after) },
			then:  inPlace,
		},
		{
			name: "the missing target of a symbolic link made",
			setUp: func(t *testing.T, path, _ string) {
				symlink(t, "not/yet", path)
			},
			edit: func(t *testing.T, _, dir string) {
				shell(t, dir, "mkdir not; echo 'level: after' > not/yet")
			},
			then: inPlace,
		},
		{
			name: "Kubernetes: ..data renamed over, the old directory removed",
			setUp: func(t *testing.T, path, dir string) {
				makeDirectory(t, filepath.Join(dir, "..2026_01"))
				write(t, filepath.Join(dir, "..2026_01/config.yaml"), before)
				symlink(t, "..2026_01", filepath.Join(dir, "..data"))
				symlink(t, "..data/config.yaml", path)
			},
			edit: func(t *testing.T, _, dir string) {
				makeDirectory(t, filepath.Join(dir, "..2026_02"))
				write(t, filepath.Join(dir, "..2026_02/config.yaml"), after)
				symlink(t, "..2026_02", filepath.Join(dir, "..data_tmp"))
				rename(t, filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data"))
				remove(t, filepath.Join(dir, "..2026_01"))
			},
			then: inPlace,
		},
		{
			name: "a symbolic link to a directory on the way, to another with ..",
			path: "current/config.yaml",
			setUp: func(t *testing.T, path, dir string) {
				makeDirectory(t, filepath.Join(dir, "releases/1"))
				makeDirectory(t, filepath.Join(dir, "releases/2"))
				makeDirectory(t, filepath.Join(dir, "links"))
				symlink(t, "../releases/1", filepath.Join(dir, "links/latest"))
				symlink(t, "./links//latest", filepath.Join(dir, "current"))
				write(t, path, before)
			},
			edit: func(t *testing.T, _, dir string) {
				write(t, filepath.Join(dir, "releases/2/config.yaml"), after)
				shell(t, dir, "ln -sfn ../releases/2 links/latest")
			},
			then: inPlace,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "config.yaml")
			if test.path != "" {
				path = filepath.Join(dir, test.path)
			}
			if test.setUp != nil {
				test.setUp(t, path, dir)
			} else {
				makeDirectory(t, filepath.Dir(path))
				write(t, path, before)
			}
			r := watched(t, path)
			test.edit(t, path, dir)
			r.expect(after)
			if test.then != nil {
				test.then(t, path, dir)
				r.expect("level: then\n")
			}
			r.settled()
		})
	}
}

// linked makes the file a symbolic link to a file called one.
func linked(t *testing.T, path, dir string) {
	write(t, filepath.Join(dir, "one"), before)
	symlink(t, "one", path)
}

// inPlace is the edit that shows that the file is watched where it is now.
func inPlace(t *testing.T, path, _ string) {
	write(t, path, "level: then\n")
}
