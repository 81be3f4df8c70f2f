package test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

const (
	service = "openclaw-gateway.service"
	socket  = "openclaw-gateway.socket"

	ipv4 = "127.0.0.1:18789"
	ipv6 = "[::1]:18789"

	// Where a machine shows what the tests bring along.
	gatewayPath = "/usr/local/bin/gateway"
	workersPath = "/usr/local/lib/workers"
	nodePath    = "/usr/local/bin/node"

	// bound is for everything that takes a moment on an idle machine. OpenClaw's start takes more than a minute beside other work.
	bound = 2 * time.Minute
)

// built is the program under test.
var built string

func TestMain(m *testing.M) { os.Exit(machine.Main(m, &built)) }

// required returns what "make test" passes in the environment.
func required(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run the tests with \"make test\"", name)
	}
	return value
}

// boot starts a machine that has the gateway, Node.js and the workers.
func boot(t testing.TB, options machine.Options) *machine.Machine {
	t.Helper()
	workers, err := filepath.Abs("workers")
	if err != nil {
		t.Fatal(err)
	}
	binds := map[string]string{gatewayPath: built, workersPath: workers, nodePath: required(t, "NODE")}
	maps.Copy(binds, options.Binds)
	options.Binds = binds
	return machine.Boot(t, options)
}

// install writes the configuration and has "gateway install" do the rest.
func install(t testing.TB, s *machine.Scope, m *machine.Machine, configuration string, flags ...string) {
	t.Helper()
	m.As(s).WriteFile(t, configPath(s), configuration, 0o644)
	if s.User == "" && !slices.Contains(flags, "--run-as") {
		flags = append(flags, "--run-as", "root")
	}
	s.Run(t, gatewayPath, append([]string{"install", "--" + kind(s), "--now"}, flags...)...)
}

// worker is a configuration that runs the command.
func worker(command ...string) string {
	quoted, err := json.Marshal(command)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("worker:\n  command: %s\n", quoted)
}

// status is the part of "gateway status --json" that tests look at.
type status struct {
	Verdict  string
	Problems []string
	Notes    []string
	Unit     struct {
		ActiveState string `json:"active_state"`
		MainPID     int    `json:"main_pid"`
		Name        string
		Scope       string
		User        string
	}
	Launcher struct {
		PID    int
		Holder string
	}
	Sockets []struct {
		Address string
		Name    string
		Inode   uint64
		Backlog int
		Queued  int
		Waiting float64 `json:"waiting_s"`
		Holders []struct {
			PID  int
			Role string
		}
	}
	Worker struct {
		State      string
		PID        int
		Generation int
		Handoff    string
		NoNewPrivs bool       `json:"no_new_privs"`
		WaitsUntil *time.Time `json:"waits_until"`
		Hung       *struct {
			Since   time.Time
			By      string
			Address string
		}
		LastExit *struct {
			Generation int
			Code       int
			Signal     string
			Reason     string
			Strays     int
			Detail     string
		} `json:"last_exit"`
	}
	Alarm struct {
		State string
	}
	Config struct {
		State string
		Error string
	}
}

// gatewayStatus asks "gateway status --json", whatever its exit status.
func gatewayStatus(t testing.TB, s *machine.Scope) status {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	output, err := s.Command(ctx, gatewayPath, "status", "--json").Output()
	var result status
	if decoding := json.Unmarshal(output, &result); decoding != nil {
		t.Fatalf("gateway status --json: %v (%v)\n%s", decoding, err, output)
	}
	return result
}

// healthyAt wants a worker to serve on these addresses, each of which systemd, the launcher and the worker hold.
func healthyAt(t *testing.T, scope *machine.Scope, addresses ...string) {
	t.Helper()
	s := gatewayStatus(t, scope)
	var held []string
	for _, line := range s.Sockets {
		held = append(held, line.Address)
		if len(line.Holders) != 3 {
			t.Errorf("%s is held by %+v", line.Address, line.Holders)
		}
	}
	if s.Verdict != "ok" || !slices.Equal(held, addresses) {
		t.Errorf("the status is %+v, want %v", s, addresses)
	}
}

// get makes one request in the machine and returns status and body.
func get(t testing.TB, m *machine.Machine, address, path string) (int, string) {
	t.Helper()
	code, body, err := tryGet(t.Context(), m, address, path)
	if err != nil {
		t.Fatal(err)
	}
	return code, body
}

// serving waits until the launcher says that a generation serves, and that
// its number is at least so high.
func serving(t testing.TB, s *machine.Scope, generation int) {
	t.Helper()
	s.WaitUnit(t, service, 2*bound, func(u machine.Unit) bool {
		var n int
		_, err := fmt.Sscanf(u.StatusText, "generation %d serves", &n)
		return err == nil && n >= generation && u.ActiveState == "active"
	})
}

// statusText waits for a STATUS= that contains all of the words.
func statusText(t testing.TB, s *machine.Scope, words ...string) machine.Unit {
	t.Helper()
	return s.WaitUnit(t, service, 2*bound, func(u machine.Unit) bool {
		for _, word := range words {
			if !strings.Contains(u.StatusText, word) {
				return false
			}
		}
		return true
	})
}
