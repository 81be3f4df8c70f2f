package launcher

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/launcher/control"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
	"openclaw-gateway/worker"
)

// TestWatchStatus: each change is drawn, on a terminal in place; the end of the
// launcher and its return as well.
func TestWatchStatus(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	t.Setenv("GATEWAY_LISTEN", "127.0.0.1:1") // where the status looks when no launcher answers
	for _, kind := range []string{"terminal", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			l, c, at := rigControl(t)
			at.Unit, at.Scope = api.Unit{Name: instance.Default.Service(), Scope: "none"}, units.System
			out, shown := fixtures.Screen(t, kind == "terminal")
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- status.Watch(ctx, say.NewWriter(out), t.Output(), []client.Target{at}, status.Format{})
			}()

			text := shown("waiting")
			if redraws := strings.Contains(text, "\x1b[H"); redraws != (kind == "terminal") {
				t.Errorf("the screen is drawn anew: %v\n%q", redraws, text)
			}
			l.observe(worker.Status{State: worker.Ready, Generation: 7, PID: os.Getpid()})
			shown("generation 7 serves")
			c.Close()
			shown("down")
			again, err := control.New(&runtimedir.Directory{Own: filepath.Dir(at.Control)}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			l.observe(worker.Status{State: worker.Ready, Generation: 8, PID: os.Getpid()})
			again.Serve(l)
			shown("generation 8 serves")
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("the watch ended with %v", err)
			}
		})
	}
}

// TestUnnoticed: where an edit would not be noticed, or that the control socket is removed, the status says so.
func TestUnnoticed(t *testing.T) {
	l, c, _ := rigControl(t)
	l.reporter.place = c.Problem
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	withoutDescriptors := func(f func()) {
		t.Helper()
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}, nil); err != nil {
			t.Fatal(err)
		}
		f()
		if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
			t.Fatal(err)
		}
	}
	changed := 0
	c.Changed = func() { changed++ }
	withoutDescriptors(func() {
		l.editions.environment.follow(1, "/some/environment")
		c.Keep(t.Context())
	})
	if changed != 1 {
		t.Errorf("who watches is told %d times that the control socket would not come back, want once", changed)
	}
	l.editions.unwatched.because(errors.New("wrong"), l.log, "configuration")
	problems := strings.Join(l.Status().Problems, "\n")
	for _, want := range []string{
		"edits of the configuration are not noticed, use gateway reload: wrong", "edits of the environment file are not noticed, use gateway reload: watch /some/environment: ",
		"a control socket that is removed does not come back by itself: ",
	} {
		if !strings.Contains(problems, want) {
			t.Errorf("%q is no problem of\n%s", want, problems)
		}
	}
	noticed := func(file string) {
		t.Helper()
		if problems := strings.Join(l.Status().Problems, "\n"); strings.Contains(problems, "environment") {
			t.Errorf("with %s the problems are\n%s", file, problems)
		}
	}
	l.editions.environment.follow(2, "")
	noticed("no environment file")
	withoutDescriptors(func() { l.editions.environment.follow(3, "/some/environment") })
	l.editions.environment.follow(4, "/some/environment")
	noticed("one that is watched at the next reload")
	l.editions.environment.follow(5, "")
	fails := errors.New("wrong")
	l.editions.watch = func() error { return fails }
	for _, fails = range []error{fails, nil} {
		l.editions.read()
		if told := strings.Contains(strings.Join(l.Status().Problems, "\n"), "edits of the configuration are not noticed"); told != (fails != nil) {
			t.Errorf("watched again with %v: it is a problem: %t", fails, told)
		}
	}
}
