package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Build builds the program under test at path, which is absolute: as everybody does, by "make build", with these
// variables of the Makefile besides, as NAME=value.
func Build(path string, variables ...string) error {
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	arguments := append([]string{"--silent", "--directory=" + filepath.Dir(strings.TrimSpace(string(module))), "build", "PROGRAM=" + path}, variables...)
	if output, err := exec.Command("make", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the gateway: %w\n%s", err, output)
	}
	return nil
}

// Main builds the program under test, says where, runs the tests and returns their exit status.
func Main(m *testing.M, program *string) int {
	directory, err := os.MkdirTemp("", "gateway-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(directory)
	*program = filepath.Join(directory, "gateway")
	if err := Build(*program); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}
