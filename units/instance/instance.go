// Package instance has what an instance is called: its units, its directories, and itself. An instance is one socket unit, one
// launcher and one configuration. The default one of a scope has no name.
package instance

import (
	"fmt"
	"path"
	"strings"

	"openclaw-gateway/lazy"
)

// Rule is what a name matches.
const Rule = "[a-z0-9][a-z0-9-]{0,31}"

// Name is that of an instance; "" is the default one's.
type Name string

// Default is the name of the one that has none.
const Default Name = ""

// spoken is what people call that.
const spoken = "default"

const base = "openclaw-gateway"

var valid = lazy.Regexp("^" + Rule + "$")

// Parse reads the name as a person writes it: "default" is the default instance. Nothing is no name.
func Parse(text string) (Name, error) {
	switch {
	case text == spoken:
		return Default, nil
	case !valid().MatchString(text):
		return "", fmt.Errorf("%q is no name of an instance: it has 1 to 32 lower-case letters, digits and hyphens, and begins with a letter or a digit (%s); "+
			"%s is the instance without a name", text, Rule, spoken)
	}
	return Name(text), nil
}

// Directory is the name of each of its directories, in /etc or ~/.config, /run, /var/lib and /var/cache.
func (n Name) Directory() string {
	if n == Default {
		return base
	}
	return base + "-" + string(n)
}

// Socket is the unit that holds the listening sockets.
func (n Name) Socket() string { return n.Directory() + ".socket" }

// Service is the unit of the launcher. OpenClaw calls the unit of a profile of that name the same.
func (n Name) Service() string { return n.Directory() + ".service" }

// String is what people call it: "default" for the one without a name.
func (n Name) String() string {
	if n == Default {
		return spoken
	}
	return string(n)
}

// Flag is how a command is told which one is meant; nothing for the default one.
func (n Name) Flag() []string {
	if n == Default {
		return nil
	}
	return []string{"--name", string(n)}
}

// OfUnit returns the instance whose socket or service has this name. Whether it is one of ours the name alone does not tell.
func OfUnit(unit string) (Name, bool) {
	name, ok := strings.CutSuffix(unit, ".service")
	if !ok {
		name, ok = strings.CutSuffix(unit, ".socket")
	}
	if !ok {
		return "", false
	}
	return OfDirectory(name)
}

// OfDirectory returns the instance that has a directory of this name.
func OfDirectory(directory string) (Name, bool) {
	if directory == base {
		return Default, true
	}
	name, ok := strings.CutPrefix(directory, base+"-")
	if !ok || name == spoken || !valid().MatchString(name) {
		return "", false
	}
	return Name(name), true
}

// Directory returns an instance's own of the directories in a variable such as RUNTIME_DIRECTORY (systemd.exec(5)), or the first, if
// none has the name of an instance: systemd sorts them, and a drop-in may add others.
func Directory(list string) string {
	all := strings.Split(list, ":")
	for _, directory := range all {
		if _, ours := OfDirectory(path.Base(directory)); ours {
			return directory
		}
	}
	return all[0]
}

// Pattern matches the units of all named ones that end in a suffix, and perhaps others; see [OfUnit].
func Pattern(suffix string) string { return base + "-*" + suffix }
