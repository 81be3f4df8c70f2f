package api

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// ControlSocket is the name of the control socket in the runtime directory.
const ControlSocket = "control.sock"

// StatusPath is where the status is asked for. The query is for an older launcher, which without it looks for the holders
// itself: that takes its time, and whoever asks would say all of it twice.
const StatusPath = "/status?holders=no"

// runtimeName is the name of the runtime directory, below that of the system or of a user.
const runtimeName = "openclaw-gateway"

// Control returns the control socket of a launcher of the system scope or of this user's scope.
func Control(user bool) string { return filepath.Join(RuntimeDirectory(user), ControlSocket) }

// ControlOf returns the control socket of a launcher in the scope of another user.
func ControlOf(uid int) string {
	return filepath.Join("/run/user", strconv.Itoa(uid), runtimeName, ControlSocket)
}

// SpareControl returns the control socket of a launcher of the system scope whose runtime directory was removed, and which may
// not make it again: it is in the unit's cache directory.
func SpareControl() string { return filepath.Join("/var/cache", runtimeName, ControlSocket) }

// RuntimeDirectory returns where a launcher of the system scope or of this
// user's scope has its runtime directory.
func RuntimeDirectory(user bool) string {
	if !user {
		return filepath.Join("/run", runtimeName)
	}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, runtimeName)
	}
	uid := strconv.Itoa(os.Geteuid())
	// Where logind makes it, for a shell that was not told (su, cron).
	base := filepath.Join("/run/user", uid)
	if _, err := os.Stat(base); err == nil {
		return filepath.Join(base, runtimeName)
	}
	return filepath.Join(os.TempDir(), runtimeName+"-"+uid)
}

// Private reports whether it is a directory that only this user can write to, as a runtime directory has to be: in a shared
// one, such as /tmp, whoever comes first makes what stands there.
func Private(info fs.FileInfo, uid int) bool {
	return info.IsDir() && int(info.Sys().(*syscall.Stat_t).Uid) == uid && info.Mode().Perm()&0o022 == 0
}
