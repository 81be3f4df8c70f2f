package systemd

import (
	"fmt"
	"os"
)

// ExecutedThis reports whether a service manager executed this very process (SYSTEMD_EXEC_PID, systemd.exec(5)): a shell in
// a systemd session has many of a service's other variables too.
func ExecutedThis() bool {
	return os.Getenv("SYSTEMD_EXEC_PID") == fmt.Sprint(os.Getpid())
}
