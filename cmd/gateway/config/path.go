package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"openclaw-gateway/units/instance"
)

// DefaultPath returns where the configuration of an instance lies: for the user scope
// $XDG_CONFIG_HOME/openclaw-gateway[-NAME]/config.yaml, with ~/.config where the variable is unset or not absolute (as the XDG
// base directory specification has it), for the system scope /etc/openclaw-gateway[-NAME]/config.yaml. It returns "" for a
// user without a home, as a system service may be one.
func DefaultPath(user bool, name instance.Name) string {
	if !user {
		return filepath.Join("/etc", name.Directory(), "config.yaml")
	}
	directory := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(directory) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		directory = filepath.Join(home, ".config")
	}
	return filepath.Join(directory, name.Directory(), "config.yaml")
}

// Find returns the file that an instance reads when none is named: the user's if it exists, else the system's if it exists, else
// "". A file that is there but cannot be looked at counts as existing, so that [Load] says what is wrong with it instead
// of another file being used in silence.
func Find(name instance.Name) string { return find(name, "") }

// find is Find where a file was read before, "" if none was: it counts as existing.
func find(name instance.Name, before string) string {
	for _, path := range []string{DefaultPath(true, name), DefaultPath(false, name)} {
		if path == "" {
			continue
		}
		// ENOTDIR: the home of many service users is /dev/null.
		_, err := os.Stat(path)
		if path == before || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path
		}
	}
	return ""
}
