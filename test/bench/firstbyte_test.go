package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// settle is how long everybody rests before a first connection: what their own preparation left to do is not measured.
const settle = 150 * time.Millisecond

// firstBytes measures how long a first client waits until a worker that boots at once has answered. Two questions: what does
// the launcher add when it waits for that client, and what when systemd has to start the launcher as well.
func firstBytes(b *testing.B, r *report) {
	const rounds = 21
	m := boot(b, machine.Options{})
	us, plain := ours(0), plainSocket(0)
	_, broken := installAll(b, m, []system{us, plain})
	for _, err := range broken {
		b.Fatal(err)
	}
	m.Systemctl(b, "start", launcherSocket, plain.units[0])
	contestants := []struct {
		name    string
		address string
		prepare func(ctx context.Context) (cleanUp func() error, err error)
		took    samples
	}{
		{name: "launcher, waiting", address: us.address, prepare: func(context.Context) (func() error, error) {
			return nil, run(m, "systemctl", "restart", launcherUnit)
		}},
		{name: "systemd-socket-activate, waiting", address: "127.0.0.1:18796", prepare: func(ctx context.Context) (func() error, error) {
			return socketActivate(ctx, m, "127.0.0.1:18796")
		}},
		{name: "systemd starts the launcher", address: us.address, prepare: func(context.Context) (func() error, error) {
			return nil, run(m, "systemctl", "stop", launcherUnit)
		}},
		{name: "systemd starts the worker", address: plain.address, prepare: func(context.Context) (func() error, error) {
			return nil, run(m, "systemctl", "stop", plain.units[1])
		}},
	}
	for range rounds {
		// Nobody is always the one after the same other.
		for _, i := range rand.Perm(len(contestants)) {
			c := &contestants[i]
			ctx, cancel := context.WithTimeout(b.Context(), restartBound)
			cleanUp, err := c.prepare(ctx)
			if err == nil {
				time.Sleep(settle)
				var took time.Duration
				took, err = firstByte(ctx, m, c.address)
				c.took = append(c.took, took)
			}
			if cleanUp != nil {
				err = errors.Join(err, cleanUp())
			}
			cancel()
			if err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
	}
	for i, text := range []struct{ what, want string }{
		{"first byte after a first connection, launcher waiting", "within 5 ms"},
		{"first byte after a first connection, launcher started by systemd", ""},
	} {
		with, without := contestants[2*i], contestants[2*i+1]
		more := make(samples, rounds)
		for round := range more {
			more[round] = with.took[round] - without.took[round]
		}
		r.aims = append(r.aims, aim{
			what: text.what, want: text.want,
			ratio: fmt.Sprintf("%s, %+.1f ms", ratio(with.took.median(), without.took.median()), more.median().Seconds()*1e3),
			ours:  with.took.String(), than: without.name + ": " + without.took.String(),
		})
	}
}

// socketActivate returns when systemd-socket-activate listens. It becomes the worker at the first connection.
func socketActivate(ctx context.Context, m *machine.Machine, address string) (cleanUp func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := m.Command(ctx, "systemd-socket-activate", "--listen="+address, "--setenv=BOOT_MS=0", nodePath, workerPath)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		said = append(said, lines.Text())
		if strings.HasPrefix(lines.Text(), "Listening on ") {
			break
		}
	}
	cleanUp = func() error {
		cancel()
		// How it ended does not matter: it was killed.
		_ = cmd.Wait()
		return nil
	}
	if len(said) == 0 || !strings.HasPrefix(said[len(said)-1], "Listening on ") {
		return cleanUp, fmt.Errorf("systemd-socket-activate does not listen: %q", said)
	}
	return cleanUp, nil
}

// run runs a command in the machine.
func run(m *machine.Machine, name string, args ...string) error {
	_, err := m.Output(name, args...)
	return err
}
