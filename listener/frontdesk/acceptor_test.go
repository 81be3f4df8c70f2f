package frontdesk

import (
	"errors"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
)

// exhaust uses up the descriptors of the process. It returns one way to free a
// single descriptor and one to free all.
func exhaust(t *testing.T) (one, all func()) {
	t.Helper()
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 256, Max: before.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		fd, err := syscall.Dup(int(null.Fd()))
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, fd)
	}
	one = func() {
		_ = unix.Close(taken[0])
		taken = taken[1:]
	}
	all = func() {
		for len(taken) > 0 {
			one()
		}
		_ = null.Close()
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}
	return one, all
}

// connectLater makes a client's descriptor now, for the time when there are none.
func connectLater(t *testing.T, socket *listener.Socket) (fd int, connect func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	limit := unix.NsecToTimeval(bound.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		t.Fatal(err)
	}
	return fd, func() {
		t.Helper()
		address := &unix.SockaddrInet4{Port: int(socket.Address.Port()), Addr: socket.Address.Addr().As4()}
		if err := unix.Connect(fd, address); err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Write(fd, []byte(get)); err != nil {
			t.Fatal(err)
		}
	}
}

// Not parallel: it takes all descriptors of the process.
func TestOutOfDescriptors(t *testing.T) {
	socket := listen(t, "127.0.0.1")
	log := &recorder{records: make(chan slog.Record, 1000)}
	limits := defaults
	limits.connections = 1 // a failed attempt does not keep the place
	desk, err := open(listener.Set{socket}, func() Notice { return failed }, slog.New(log), limits)
	if err != nil {
		t.Fatal(err)
	}
	defer desk.Close()
	client, connect := connectLater(t, socket)
	one, all := exhaust(t)
	defer all()

	begin, used := time.Now(), processorTime(t)
	connect()
	for want := defaults.retryMin; want <= 320*time.Millisecond; want *= 2 {
		level, retry, text := log.next(t)
		wantLevel := slog.LevelDebug
		if want == defaults.retryMin {
			wantLevel = slog.LevelWarn
		}
		if level != wantLevel || retry != want || !strings.Contains(text, unix.EMFILE.Error()) {
			t.Fatalf("logged at %s: %s; want a wait of %s at %s", level, text, want, wantLevel)
		}
	}
	used, took := processorTime(t)-used, time.Since(begin)
	if took < 310*time.Millisecond { // 5 + 10 + 20 + … + 160 ms
		t.Errorf("seven attempts took %s", took)
	}
	if used > took/2 {
		t.Errorf("in %s without descriptors the processor worked for %s", took, used)
	}

	// It needs this one and no other.
	one()
	buffer := make([]byte, 4096)
	n, err := unix.Read(client, buffer)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Read(client, buffer)
	}
	if err != nil || !strings.HasPrefix(string(buffer[:max(n, 0)]), "HTTP/1.1 503 ") {
		t.Errorf("the client got %q, %v", buffer[:max(n, 0)], err)
	}
	talking(t, desk, 0) // its descriptor must not become free in the next test
}

// Not parallel: the limit is the whole process's.
func TestConnectionsLeaveDescriptorsToTheLauncher(t *testing.T) {
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
			t.Error(err)
		}
	}()
	for limit, want := range map[uint64]int{200: 100, before.Max: min(1024, int(before.Max/2))} {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: before.Max}); err != nil {
			t.Fatal(err)
		}
		desk, err := Open(nil, nil, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		desk.Close()
		if got := cap(desk.acceptor.places); got != want {
			t.Errorf("with %d descriptors there are %d places, not %d", limit, got, want)
		}
	}
}

// Not parallel: it takes all descriptors of the process.
func TestCloseWithoutDescriptors(t *testing.T) {
	socket := listen(t, "127.0.0.1")
	log := &recorder{records: make(chan slog.Record, 1000)}
	limits := defaults
	limits.retryMin, limits.retryMax = time.Hour, time.Hour
	desk, err := open(listener.Set{socket}, func() Notice { return failed }, slog.New(log), limits)
	if err != nil {
		t.Fatal(err)
	}
	_, connect := connectLater(t, socket)
	_, all := exhaust(t)
	defer all()
	if _, err := Open(listener.Set{socket}, nil, slog.New(log)); !errors.Is(err, unix.EMFILE) {
		t.Errorf("opening a desk without a descriptor: %v", err)
	}
	connect()
	log.next(t)
	within(t, "closing the desk", desk.Close)
	queued(t, 1, socket)
}

// A socket that cannot be watched is told of, not watched in a circle.
func TestAClosedSocket(t *testing.T) {
	t.Parallel()
	socket := listen(t, "127.0.0.1")
	if err := socket.File.Close(); err != nil {
		t.Fatal(err)
	}
	log := &recorder{records: make(chan slog.Record, 1000)}
	limits := defaults
	limits.retryMin, limits.retryMax = time.Hour, time.Hour
	desk, err := open(listener.Set{socket}, func() Notice { return failed }, slog.New(log), limits)
	if err != nil {
		t.Fatal(err)
	}
	if level, _, text := log.next(t); level != slog.LevelWarn || !strings.Contains(text, socket.Address.String()) {
		t.Errorf("logged at %s: %s", level, text)
	}
	within(t, "closing the desk", desk.Close)
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
