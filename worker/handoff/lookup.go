package handoff

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Directory is where a program starts for which nobody has named a directory: in the one that is wished, or at / where that is none, or
// cannot be entered. So systemd starts the service of a user whose home is not there.
func Directory(wished string) string {
	info, err := os.Stat(wished)
	if err != nil || !info.IsDir() || !filepath.IsAbs(wished) || unix.Faccessat(unix.AT_FDCWD, wished, unix.X_OK, unix.AT_EACCESS) != nil {
		return "/"
	}
	return wished
}

// Lookup finds the program as a shell in the worker's directory would. Environ is
// the worker's environment, as NAME=value.
func Lookup(name, directory string, environ []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(directory, name)
		}
		return exec.LookPath(name)
	}
	path := ""
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for _, folder := range filepath.SplitList(path) {
		if !filepath.IsAbs(folder) {
			continue
		}
		if found, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return found, nil
		}
	}
	return "", fmt.Errorf("%q is not in the PATH (%s): give its whole path", name, path)
}
