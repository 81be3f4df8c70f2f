// Package wait bounds what a test waits for. It imports nothing of ours, so that every package can be tested with it.
package wait

import (
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Within fails the test when what it does is not done in time, or fails.
func Within(t testing.TB, bound time.Duration, what string, do func() error) {
	t.Helper()
	result := make(chan error, 1)
	go func() { result <- do() }()
	select {
	case err := <-result:
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	case <-time.After(bound):
		t.Fatalf("not within %s: %s", bound, what)
	}
}

// InDirectory looks once, and then at each event in the directory, which has to be there (inotify(7)), until done says that it is. At the
// bound the test fails with what done has seen last.
func InDirectory(t testing.TB, bound time.Duration, directory string, done func() (seen string, is bool)) {
	t.Helper()
	events, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	if err := events.Add(directory); err != nil {
		t.Fatalf("watch %s: %v", directory, err)
	}
	for limit := time.After(bound); ; {
		seen, is := done()
		if is {
			return
		}
		select {
		case <-events.Events:
		case err := <-events.Errors:
			t.Fatalf("watch %s: %v", directory, err)
		case <-limit:
			t.Fatalf("in %s there is still, after %s: %s", directory, bound, seen)
		}
	}
}
