package api

import (
	"os"
	"path/filepath"
	"strconv"
)

// ControlSocket is the name of the control socket in the runtime directory.
const ControlSocket = "control.sock"

// RuntimeDirectory returns where a launcher of the system scope or of this
// user's scope has its runtime directory.
func RuntimeDirectory(user bool) string {
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
