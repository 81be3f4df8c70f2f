package launcher

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"openclaw-gateway/cmd/gateway/api"
)

// ownRuntimeDirectory returns the directory for the launcher's sockets and
// scripts: the one that systemd made for the unit, or one of the same name that
// it makes for a launcher run by hand. Nobody but this user may write there.
func ownRuntimeDirectory() (string, error) {
	directory, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":")
	if directory == "" {
		directory = api.RuntimeDirectory(os.Geteuid() != 0)
	}
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", fmt.Errorf("make the runtime directory: %w", err)
	}
	// Lstat: in a shared directory somebody else may have put a link there.
	info, err := os.Lstat(directory)
	if err != nil {
		return "", fmt.Errorf("examine the runtime directory: %w", err)
	}
	if !api.Private(info, os.Geteuid()) {
		return "", fmt.Errorf("%s is not a directory that only uid %d can write to (%s, uid %d): another user's launcher may use it; see \"gateway status\"",
			directory, os.Geteuid(), info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	}
	return directory, nil
}
