package systemd

import "openclaw-gateway/cmd/gateway/read"

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
	return append(commands, As(caller, 0, "chmod", "go-w", others.At)), programPlace
}
