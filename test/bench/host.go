package bench

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// describe says what a reader must know of the computer to compare, and nothing by which it could be found.
func describe(node string) ([]string, error) {
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	cpu, cpuErr := field("/proc/cpuinfo", "model name", ":")
	memory, memoryErr := field("/proc/meminfo", "MemTotal", ":")
	distribution, distributionErr := field("/etc/os-release", "PRETTY_NAME", "=")
	systemd, systemdErr := exec.Command("systemctl", "--version").Output()
	version, nodeErr := exec.Command(node, "--version").Output()
	if err := errors.Join(memoryErr, distributionErr, systemdErr, nodeErr); err != nil {
		return nil, err
	}
	if cpuErr != nil {
		cpu = runtime.GOARCH // ARM has no model name there
	}
	kib, err := strconv.Atoi(strings.TrimSuffix(memory, " kB"))
	if err != nil {
		return nil, fmt.Errorf("MemTotal: %w", err)
	}
	systemdVersion, _, _ := strings.Cut(string(systemd), "\n")
	return []string{
		fmt.Sprintf("%s, %d cores, %.0f GiB of memory", cpu, runtime.NumCPU(), float64(kib)/(1<<20)),
		fmt.Sprintf("Linux %s, %s", unix.ByteSliceToString(uname.Release[:]), strings.Trim(distribution, `"`)),
		fmt.Sprintf("%s, Node.js %s", systemdVersion, strings.TrimSpace(string(version))),
	}, nil
}

// field is the first value of a key in a file of keys and values.
func field(path, key, separator string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(content)) {
		name, value, found := strings.Cut(line, separator)
		if found && strings.TrimSpace(name) == key {
			return strings.TrimSpace(value), nil
		}
	}
	return "", fmt.Errorf("%s has no %s", path, key)
}
