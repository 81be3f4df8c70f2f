package systemd

import (
	"os"
	"strconv"
)

// CompleteEnvironment adds what a session of the caller's has, for who has none (env -i, cron, a container's init): other
// programs are found by PATH, and a user's files by HOME. A launcher has what its worker is to have, but PATH, which a shell
// would make up too.
func CompleteEnvironment(launcher bool) {
	if os.Getenv("PATH") == "" {
		_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if os.Getenv("HOME") == "" && !launcher {
		if account, err := Account(strconv.Itoa(os.Geteuid())); err == nil {
			_ = os.Setenv("HOME", account.HomeDir)
		}
	}
}
