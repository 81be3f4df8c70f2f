package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// controlSocket is the name of the control socket in the runtime directory.
const controlSocket = "control.sock"

// ownRuntimeDirectory returns the directory for the launcher's sockets and
// scripts: the one that systemd made for the unit, or one of the same name that
// it makes for a launcher run by hand. Nobody but this user may write there.
func ownRuntimeDirectory() (string, error) {
	directory, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if directory == "" {
		directory = runtimeDirectory(os.Geteuid() != 0)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", fmt.Errorf("make the runtime directory: %w", err)
	}
	// Lstat: in a shared directory somebody else may have put a link there.
	info, err := os.Lstat(directory)
	if err != nil {
		return "", fmt.Errorf("examine the runtime directory: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if !info.IsDir() || int(owner) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("%s is not a directory that only uid %d can write to (%s, uid %d): another user's launcher may use it; see \"gateway status\"",
			directory, os.Geteuid(), info.Mode(), owner)
	}
	return directory, nil
}

// runtimeDirectory returns where a launcher of the system scope or of this
// user's scope has its runtime directory.
func runtimeDirectory(user bool) string {
	const name = "openclaw-gateway"
	if !user {
		return filepath.Join("/run", name)
	}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, name)
	}
	uid := strconv.Itoa(os.Geteuid())
	// Where logind makes it, for a shell that was not told (su, cron).
	if base := filepath.Join("/run/user", uid); isDirectory(base) {
		return filepath.Join(base, name)
	}
	return filepath.Join(os.TempDir(), name+"-"+uid)
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
