package shim_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/worker/handoff/shim"
)

// A client waits while the shim starts. What the program initialises before it is what it costs.
func TestInitialisedEarly(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = []string{shim.Variable + "=x", "GODEBUG=inittrace=1"} // of package runtime's documentation
	output, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 126 {
		t.Fatalf("the shim ended with %v\n%s", err, output)
	}
	var before []string
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "init" {
			before = append(before, fields[1])
		}
	}
	if !slices.Contains(before, "syscall") {
		t.Fatalf("the trace does not even have package syscall:\n%s", output)
	}
	for _, late := range []string{"fmt", "os", "reflect", "strconv", "strings", "unicode"} {
		if slices.Contains(before, late) {
			t.Errorf("package %s is initialised before the shim: what does it import?\n%s", late, output)
		}
	}
}
