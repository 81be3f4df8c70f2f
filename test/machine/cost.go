package machine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cost appends to the file COSTS, where there is one, the processor time that all of a machine's processes have needed, in
// seconds, and whose machine it was: "make test" adds it up. The kernel counts it for each cgroup (cpu.stat, cgroup-v2.rst).
func (m *Machine) cost(t testing.TB) {
	path := os.Getenv("COSTS")
	if path == "" {
		return
	}
	stat, err := os.ReadFile(filepath.Join(m.cgroup, "cpu.stat"))
	var microseconds int64
	if err == nil {
		_, err = fmt.Sscanf(string(stat), "usage_usec %d", &microseconds)
	}
	if err != nil {
		t.Errorf("the machine's processor time: %v", err)
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	test, _, _ := strings.Cut(t.Name(), "/")
	if _, err := fmt.Fprintf(file, "%.2f %s\n", float64(microseconds)/1e6, test); err != nil {
		t.Error(err)
	}
}
