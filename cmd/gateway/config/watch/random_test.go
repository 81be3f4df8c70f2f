package watch

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRandomEdits does anything to a file and what is on the way to it, in every
// order that the seeds make, and wants the content that was found last to be the
// file's whenever it comes to rest.
func TestRandomEdits(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			s := &scene{t: t, dir: t.TempDir(), random: random}
			path := filepath.Join(s.dir, "link", "config.yaml")
			for _, d := range []string{"a", "b/c"} {
				makeDirectory(t, filepath.Join(s.dir, d))
			}
			symlink(t, "a", filepath.Join(s.dir, "link"))
			write(t, path, before)
			r := watched(t, path)
			last := before
			for range 20 {
				for range 1 + random.IntN(12) {
					s.step()
				}
				last = s.rest(r, last)
			}
			if s.awaited < 5 {
				t.Errorf("only %d calls were waited for: the steps are too tame", s.awaited)
			}
		})
	}
}

// scene is a directory tree in which anything may happen.
type scene struct {
	t       *testing.T
	dir     string
	random  *rand.Rand
	count   int
	did     []string
	open    []*os.File
	awaited int // calls that were needed for what rest found
}

// step does one thing. Most of them fail now and then, because what they need is
// not there: that is part of it.
func (s *scene) step() {
	pick := func(of ...string) string { return of[s.random.IntN(len(of))] }
	place := filepath.Join(s.dir, pick("link", "link", "link", "a", "b/c"))
	path := filepath.Join(place, pick("config.yaml", "config.yaml", "config.yaml", "other"))
	link := filepath.Join(s.dir, "link")
	s.count++
	content := fmt.Appendf(nil, "edit %d\n", s.count)
	if s.random.IntN(4) == 0 {
		content = []byte(before) // so that contents come back
	}
	var what string
	var err error
	switch s.random.IntN(14) {
	case 0, 1:
		what, err = "write", os.WriteFile(path, content, 0o644)
	case 2, 3:
		what = "replace"
		if err = os.WriteFile(path+".new", content, 0o644); err == nil {
			err = os.Rename(path+".new", path)
		}
	case 4:
		what, err = "remove", os.RemoveAll(path)
	case 5:
		what = "open and write half"
		var file *os.File
		if file, err = os.Create(path); err == nil {
			s.open = append(s.open, file)
			_, err = file.Write(content[:len(content)/2])
		}
	case 6:
		what = "close"
		s.close()
	case 7:
		what = "retarget"
		target := pick("a", "b/c", "b", filepath.Join(s.dir, "a"), "./b/../a", "nowhere")
		_ = os.Remove(link + ".new")
		if err = os.Symlink(target, link+".new"); err == nil {
			err = os.Rename(link+".new", link)
		}
	case 8:
		what = "remove the directory"
		err = os.RemoveAll(filepath.Join(s.dir, pick("a", "b", "link")))
	case 9:
		what, err = "make the directories", s.makeDirectories(pick("a", "b/c"))
	case 10:
		what = "exchange the directories"
		err = os.Rename(filepath.Join(s.dir, "a"), filepath.Join(s.dir, "moved"))
		_ = os.Rename(filepath.Join(s.dir, "b/c"), filepath.Join(s.dir, "a"))
		_ = os.Rename(filepath.Join(s.dir, "moved"), filepath.Join(s.dir, "b/c"))
	case 11:
		what = "link to the other"
		_ = os.Remove(path)
		err = os.Symlink(pick("other", "../a/other", "../b/c/config.yaml", "config.yaml"), path)
	case 12:
		what = "hard link to the other"
		_ = os.Remove(path)
		err = os.Link(filepath.Join(place, "other"), path)
	case 13:
		what, err = "mode", os.Chmod(path, 0o600)
	}
	entry := strings.ReplaceAll(fmt.Sprintf("%s %s", what, path), s.dir+"/", "")
	if err != nil {
		entry += " (failed)"
	}
	s.did = append(s.did, entry)
}

// makeDirectories makes those that are missing, and the link.
func (s *scene) makeDirectories(target string) error {
	for _, d := range []string{"a", "b/c"} {
		_ = os.MkdirAll(filepath.Join(s.dir, d), 0o755)
	}
	link := filepath.Join(s.dir, "link")
	if _, err := os.Stat(link); err == nil {
		return nil
	}
	_ = os.RemoveAll(link)
	return os.Symlink(target, link)
}

// close ends what is being written.
func (s *scene) close() {
	for _, file := range s.open {
		_, _ = file.WriteString("the other half\n")
		_ = file.Close()
	}
	s.open = nil
}

// rest brings the scene to rest, most often with a file, and waits until the content
// found last is the file's. It returns that, or what was found last if there is none.
func (s *scene) rest(r *rig, last string) string {
	s.t.Helper()
	s.close()
	s.did = append(s.did, "rest")
	content, err := os.ReadFile(r.path)
	if err != nil && s.random.IntN(4) > 0 {
		// A directory, or a link to nowhere, may be in the way.
		_ = s.makeDirectories("a")
		_ = os.RemoveAll(r.path)
		s.count++
		content = fmt.Appendf(nil, "rest %d\n", s.count)
		err = os.WriteFile(r.path, content, 0o644)
		s.did = append(s.did, "make it")
	}
	deadline := time.After(bound)
	var got []string
	for {
		select { // what has been found meanwhile
		case report := <-r.reports:
			got = append(got, report)
			last = report
			continue
		default:
		}
		if err != nil || last == string(content) {
			return last
		}
		select {
		case report := <-r.reports:
			got = append(got, report)
			last = report
			s.awaited++
		case <-deadline:
			s.t.Fatalf("%v after the last edit a call last found %q, but the file holds %q\ncalls: %q\ndone:\n%s",
				bound, last, content, got, strings.Join(s.did, "\n"))
		}
	}
}
