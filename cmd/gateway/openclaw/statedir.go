package openclaw

import (
	"os"
	"path/filepath"
	"strings"
)

// StateDir returns the directory in which a gateway with that command and environment has its state, for a user who is at home
// there, by the rules of 2026.9.6 (src/config/state-dir.ts, src/cli/profile.ts): OPENCLAW_STATE_DIR, else that of its --profile,
// else ~/.openclaw, or ~/.clawdbot where there is that one alone. It looks whether these are there, so whoever asks should
// be that user; "" where it cannot be told.
func StateDir(home string, environment, argv []string) string {
	variable := func(name string) (value string) {
		for _, entry := range environment {
			if v, ok := strings.CutPrefix(entry, name+"="); ok {
				value = strings.TrimSpace(v)
			}
		}
		return value
	}
	if own := variable("HOME"); own != "" {
		home = own
	}
	expand := func(path string) string {
		if path == "~" || strings.HasPrefix(path, "~/") {
			path = filepath.Join(home, path[1:])
		}
		if !filepath.IsAbs(path) {
			return "" // below the worker's directory, wherever that is
		}
		return filepath.Clean(path)
	}
	if own := variable("OPENCLAW_HOME"); own != "" {
		home = expand(own)
	}
	switch chosen := variable("OPENCLAW_STATE_DIR"); {
	case chosen != "":
		return expand(chosen)
	case !filepath.IsAbs(home):
		return ""
	}
	if profile := profileOf(argv); profile != "" {
		return filepath.Join(home, ".openclaw-"+profile)
	}
	present, former := filepath.Join(home, ".openclaw"), filepath.Join(home, ".clawdbot")
	if !exists(present) && exists(former) {
		return former
	}
	return present
}

// Places are the variables that say where a gateway has its state. Who has one, as an absolute path, needs none of those behind it.
func Places() []string { return []string{"OPENCLAW_STATE_DIR", "OPENCLAW_HOME", "HOME"} }

// profileOf returns the profile that an option before OpenClaw's command names, "" for the default one.
func profileOf(argv []string) (profile string) {
	for i, argument := range argv {
		value, ok := strings.CutPrefix(argument, "--profile=")
		switch {
		case argument == "gateway": // its --dev is another one
			return profile
		case ok:
			profile = value
		case argument == "--profile" && i+1 < len(argv):
			profile = argv[i+1]
		case argument == "--dev":
			profile = "dev"
		}
		if strings.EqualFold(profile, "default") {
			profile = ""
		}
	}
	return profile
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
