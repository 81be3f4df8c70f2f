package systemd

import (
	"path/filepath"
	"slices"

	"openclaw-gateway/cmd/gateway/read"
)

// programPlace is where root's programs are that no package brings.
const programPlace = "/usr/local/bin/gateway"

// Secure is what makes a program one that nobody but root can replace, for a person with the user id of the caller, and where
// it is then.
func Secure(caller int, program string, others *read.OthersError) (commands []string, path string) {
	switch {
	case program != programPlace:
		return []string{As(caller, 0, "install", "-m", "755", program, programPlace)}, programPlace
	case others.UID != 0:
		commands = append(commands, As(caller, 0, "chown", "root:", others.At))
	}
	// And the folders below, which may have the same mode: on an older Debian all of /usr/local is the group staff's.
	chmod := []string{"chmod", "go-w"}
	for at := program; ; at = filepath.Dir(at) {
		if at != program || others.At == program {
			chmod = slices.Insert(chmod, 2, at)
		}
		if at == others.At || at == "/" {
			break
		}
	}
	return append(commands, As(caller, 0, chmod...)), programPlace
}
