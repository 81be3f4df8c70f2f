package api

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"openclaw-gateway/units/instance"
)

// ControlSocket is the name of the control socket in the runtime directory.
const ControlSocket = "control.sock"

// CompileCache is the name of the directory in the cache directory in which a Node.js keeps what it has compiled.
const CompileCache = "node"

// Prewarm is the name of the one beside it, with what is known of the modules of a Node.js (restart.prewarm).
const Prewarm = "prewarm"

// What can be asked of a launcher over its control socket. The first three are told (GET), the others are done (POST).
const (
	StatusPath     = "/status"
	HistoryPath    = "/history"
	WatchPath      = "/watch"
	CheckPath      = "/check"
	RestartPath    = "/restart"
	RestartNowPath = "/restart-now"
	ReloadPath     = "/reload"
	UpgradePath    = "/upgrade"
	HurryPath      = "/hurry"
)

// StatusQuery is for an older launcher, which without it looks for the holders itself: that takes its time, and whoever asks
// would say all of it twice.
const StatusQuery = "?holders=no"

// Control returns the control socket of an instance of the system scope or of this user's scope.
func Control(user bool, name instance.Name) string {
	return filepath.Join(RuntimeDirectory(user, name), ControlSocket)
}

// ControlOf returns the control socket of an instance in the scope of another user.
func ControlOf(uid int, name instance.Name) string {
	return filepath.Join("/run/user", strconv.Itoa(uid), name.Directory(), ControlSocket)
}

// SpareControl returns the control socket of an instance of the system scope whose runtime directory was removed, and which may
// not make it again: it is in the unit's cache directory.
func SpareControl(name instance.Name) string {
	return filepath.Join("/var/cache", name.Directory(), ControlSocket)
}

// RuntimeDirectory returns where an instance of the system scope or of this user's scope has its runtime directory.
func RuntimeDirectory(user bool, name instance.Name) string {
	if !user {
		return filepath.Join("/run", name.Directory())
	}
	if base := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(base) {
		return filepath.Join(base, name.Directory())
	}
	uid := strconv.Itoa(os.Geteuid())
	// Where logind makes it, for a shell that was not told (su, cron).
	base := filepath.Join("/run/user", uid)
	if _, err := os.Stat(base); err == nil {
		return filepath.Join(base, name.Directory())
	}
	return filepath.Join(os.TempDir(), name.Directory()+"-"+uid)
}

// Instances returns the named instances that have a runtime directory in the system's scope or in this user's: whether a
// launcher has that, who asks it is told.
func Instances(user bool) (all []instance.Name) {
	own := RuntimeDirectory(user, instance.Default)
	suffix := strings.TrimPrefix(filepath.Base(own), instance.Default.Directory()) // in a shared directory it ends in the uid
	entries, _ := os.ReadDir(filepath.Dir(own))
	for _, entry := range entries {
		directory, ok := strings.CutSuffix(entry.Name(), suffix)
		if name, named := instance.OfDirectory(directory); ok && named && name != instance.Default {
			all = append(all, name)
		}
	}
	return all
}

// Private reports whether it is a directory that only this user can write to, as a runtime directory has to be: in a shared
// one, such as /tmp, whoever comes first makes what stands there.
func Private(info fs.FileInfo, uid int) bool {
	return info.IsDir() && int(info.Sys().(*syscall.Stat_t).Uid) == uid && info.Mode().Perm()&0o022 == 0
}
