package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

// inspections measures the commands with which a person looks, on a machine where there is much to look at. Beside them,
// the command that shows who listens.
func inspections(b *testing.B, r *report) {
	const (
		processes = 500
		sockets   = 10_000
		times     = 11
	)
	commands := []struct {
		name    string
		command []string
		status  int // the highest exit status with which it has done its work
		want    time.Duration
		took    samples
	}{
		{"gateway status", []string{gatewayPath, "status", "--json"}, 0, 150 * time.Millisecond, nil},
		{"gateway doctor", []string{gatewayPath, "doctor", "--json"}, 1, 300 * time.Millisecond, nil},
		{"ss -tlnp", []string{"ss", "--tcp", "--listening", "--numeric", "--processes"}, 0, 0, nil},
	}
	m := boot(b, machine.Options{})
	s := ours(0)
	if _, broken := installAll(b, m, []system{s}); broken[s.name] != nil {
		b.Fatal(broken[s.name])
	}
	ctx, cancel := context.WithTimeout(b.Context(), 3*time.Minute)
	defer cancel()
	if _, err := s.start(ctx, m); err != nil {
		b.Fatal(err)
	}
	crowd := m.Command(ctx, "python3", filesPath+"/crowd.py", strconv.Itoa(processes), strconv.Itoa(sockets))
	var stderr bytes.Buffer
	crowd.Stderr = &stderr
	stdout, err := crowd.StdoutPipe()
	if err == nil {
		err = crowd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		cancel()
		_ = crowd.Wait() // it was killed
	}()
	if said, err := bufio.NewReader(stdout).ReadString('\n'); said != "ready\n" {
		b.Fatalf("the crowd says %q: %v\n%s", said, err, stderr.String())
	}
	for range times {
		for i := range commands {
			c := &commands[i]
			output, err := m.Output(selfPath, append([]string{"time", strconv.Itoa(c.status)}, c.command...)...)
			if err != nil {
				b.Fatal(err)
			}
			var took time.Duration
			if err := json.Unmarshal([]byte(output), &took); err != nil {
				b.Fatalf("%q: %v", output, err)
			}
			c.took = append(c.took, took)
		}
	}
	beside := commands[len(commands)-1]
	for _, c := range commands[:len(commands)-1] {
		r.aims = append(r.aims, aim{
			what:  fmt.Sprintf("%s with %d processes and %d open sockets", c.name, processes, sockets),
			ratio: ratio(c.took.median(), beside.took.median()), want: short(c.want), ours: c.took.String(), than: beside.name + ": " + beside.took.String(),
		})
	}
}

// timeCommand runs a command, which follows the highest exit status that it may have, and prints how long it took, in
// nanoseconds. It runs in the machine, where a command starts without what it takes to enter one.
func timeCommand(args []string) error {
	if len(args) < 2 {
		return errors.New("time: want an exit status and a command")
	}
	highest, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("time: %w", err)
	}
	cmd := exec.Command(args[1], args[2:]...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	start := time.Now()
	err = cmd.Run()
	took := time.Since(start)
	if status := cmd.ProcessState.ExitCode(); status < 0 || status > highest {
		return fmt.Errorf("%q: %w\n%s", args[1:], err, output.Bytes())
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}
