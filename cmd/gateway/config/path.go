package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// DefaultPath returns where the configuration of a scope lies: for the user scope
// $XDG_CONFIG_HOME/openclaw-gateway/config.yaml, with ~/.config where the variable is unset or not absolute (as the XDG
// base directory specification has it), for the system scope /etc/openclaw-gateway/config.yaml. It returns "" for a
// user without a home, as a system service may be one.
func DefaultPath(user bool) string {
	if !user {
		return "/etc/openclaw-gateway/config.yaml"
	}
	directory := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(directory) {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		directory = filepath.Join(home, ".config")
	}
	return filepath.Join(directory, "openclaw-gateway", "config.yaml")
}

// Find returns the file that is read when none is named: the user's if it exists, else the system's if it exists, else
// "". A file that is there but cannot be looked at counts as existing, so that [Load] says what is wrong with it instead
// of another file being used in silence.
func Find() string {
	for _, path := range []string{DefaultPath(true), DefaultPath(false)} {
		if path == "" {
			continue
		}
		// ENOTDIR: the home of many service users is /dev/null.
		_, err := os.Stat(path)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
			return path
		}
	}
	return ""
}
