package handoff

import (
	"path/filepath"
	"slices"
	"strings"
)

// Becomes is the user whom a command makes of itself by the program that it begins with, by name or by number; "" where it
// begins with none, or does not say whom.
func Becomes(command []string) string {
	if len(command) == 0 {
		return ""
	}
	name, rest := filepath.Base(command[0]), command[1:]
	switch name {
	case "runuser", "su":
		if user := option(rest, "-u", "--user"); user != "" && name == "runuser" {
			return user
		}
		return argument(rest, "-c", "--command", "-g", "--group", "-G", "--supp-group", "-s", "--shell", "-w", "--whitelist-environment")
	case "gosu", "su-exec", "setuidgid", "s6-setuidgid":
		user, _, _ := strings.Cut(argument(rest), ":")
		return user
	}
	user, _, _ := strings.Cut(option(rest, becomers[name]...), ":")
	return user
}

// becomers are programs that become a user whom an option names.
var becomers = map[string][]string{
	"setpriv": {"--reuid", "--ruid", "--euid"}, "chpst": {"-u"}, "s6-applyuidgid": {"-u"}, "capsh": {"--user", "--uid"}, "chroot": {"--userspec"},
	"unshare": {"-S", "--setuid"}, "nsenter": {"-S", "--setuid"}, "start-stop-daemon": {"-c", "--chuid"}, "daemonize": {"-u"}, "daemon": {"-u", "--user"},
	"sudo": {"-u", "--user"}, "doas": {"-u"}, "pkexec": {"--user"}, "run0": {"-u", "--user"}, "systemd-run": {"--uid"},
}

// option is the value of an option in one of its spellings, up to what is started; "" where it is not there.
func option(words []string, spellings ...string) string {
	for i, word := range words {
		if !strings.HasPrefix(word, "-") && (i == 0 || !strings.HasPrefix(words[i-1], "-")) || word == "--" {
			return ""
		}
		if slices.Contains(spellings, word) && i+1 < len(words) {
			return words[i+1]
		}
		for _, spelling := range spellings {
			if value, given := strings.CutPrefix(word, spelling+"="); given && strings.HasPrefix(spelling, "--") {
				return value
			}
		}
	}
	return ""
}

// argument is the first word that is neither an option nor the value of one of those.
func argument(words []string, valued ...string) string {
	for i := 0; i < len(words); i++ {
		switch {
		case slices.Contains(valued, words[i]):
			i++
		case !strings.HasPrefix(words[i], "-"):
			return words[i]
		}
	}
	return ""
}
