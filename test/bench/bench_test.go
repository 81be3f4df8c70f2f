package bench

import (
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// budget is what the whole run may take; what has been begun then is finished.
const budget = 24 * time.Minute

// built is the program under test.
var built string

// The test binary executed again in a machine, with one of these as its first argument.
var roles = map[string]func(args []string) error{
	"idle": idle,
	"time": timeCommand,
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && roles[os.Args[1]] != nil {
		if err := roles[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(machine.Main(m, &built))
}

// idle is a Go program that waits for a signal, as the launcher does while nothing happens.
func idle([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	<-stop
	return nil
}

// required returns what the Makefile passes in the environment.
func required(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run the benchmarks with \"make bench\", and the tests with \"make test\"", name)
	}
	return value
}

// boot starts a machine that has the gateway, Node.js and the benchmarks' own files.
func boot(t testing.TB, options machine.Options) *machine.Machine {
	t.Helper()
	files, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binds := map[string]string{gatewayPath: built, filesPath: files, nodePath: required(t, "NODE"), selfPath: self}
	modules := os.Getenv("PM2_MODULES")
	if info, err := os.Stat(modules); err == nil && info.IsDir() {
		binds["/opt/pm2/node_modules"] = modules
	}
	maps.Copy(binds, options.Binds)
	options.Binds = binds
	return machine.Boot(t, options)
}

// progress tells whoever waits what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}

// BenchmarkReport takes all measurements and writes the report into the directory BENCH_DOCS. A part of it, which
// "-bench Report/restarts" takes, is printed only.
func BenchmarkReport(b *testing.B) {
	start := time.Now()
	r := report{deadline: start.Add(budget)}
	var err error
	if r.host, err = describe(required(b, "NODE")); err != nil {
		b.Fatal(err)
	}
	parts := []struct {
		name    string
		measure func(*testing.B, *report)
	}{
		{"first-byte", firstBytes},
		{"round-trip", roundTrips},
		{"binds", binds},
		{"idle", idling},
		{"inspection", inspections},
		{"restarts", restarts},
		{"handovers", handovers},
		{"streams", streams},
		{"hundred", hundred},
		{"crashes", crashes},
		{"openclaw", openClaw},
	}
	complete := true
	for _, part := range parts {
		ran := false
		ok := b.Run(part.name, func(b *testing.B) {
			ran = true
			start := time.Now()
			part.measure(b, &r)
			progress("%s took %s", part.name, time.Since(start).Round(time.Second))
		})
		complete = complete && ran && ok
	}
	r.took = time.Since(start)
	fmt.Println(r.markdown())
	switch directory := os.Getenv("BENCH_DOCS"); {
	case !complete:
		progress("not all was measured, so nothing is written")
	case directory != "":
		if err := r.write(directory, secrets(b)); err != nil {
			b.Fatal(err)
		}
		progress("written: %s/bench.md and bench.svg", directory)
	}
}

// secrets are what the report must not contain.
func secrets(t testing.TB) []string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	here, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, secret := range []string{name, here, home, os.TempDir()} {
		// "debian" or "linux" as a name gives nobody away, and may stand in every report.
		if !strings.Contains("debian linux localhost /", strings.ToLower(secret)) {
			all = append(all, secret)
		}
	}
	return all
}
