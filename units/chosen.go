package units

import (
	"bytes"
	"strings"

	"openclaw-gateway/lazy"
	"openclaw-gateway/units/instance"
)

// Choice is what whoever installs the units can choose, and who renders them again can keep.
type Choice struct {
	Program  string // where it lies
	RunAs    string // empty: root, or in a user's scope that user
	Config   string // empty: the scope's default
	Hardened bool
}

// Chosen returns what our service of an instance in dir below root (see [OpenDir]) was rendered with; nothing if there is no service. It
// fails if the service is not ours ([ErrForeign]).
func Chosen(root, dir string, name instance.Name) (Choice, error) {
	texts, err := read(root, dir, name.Service())
	if err != nil {
		return Choice{}, err
	}
	return ChosenIn(texts[name.Service()]), nil
}

// Ours reports whether a unit with this text was written by this program.
func Ours(text []byte) bool { return bytes.HasPrefix(text, []byte(marker)) }

// commandLine is that of a service, whose program has no quote in its path.
var commandLine = lazy.Regexp(`^("[^"]*"|[^" ]+) run(?: --name [^ ]+)?(?: --config (.*))?$`)

// ChosenIn is [Chosen] for the text of a service; of one that is not ours it returns nothing.
func ChosenIn(text []byte) (chosen Choice) {
	if !Ours(text) {
		return chosen
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "User="); ok {
			chosen.RunAs = name
		}
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			if parts := commandLine().FindStringSubmatch(command); parts != nil {
				chosen.Program, chosen.Config = unquoteArgument(parts[1]), unquoteArgument(parts[2])
			}
		}
		chosen.Hardened = chosen.Hardened || line == hardenedLine
	}
	return chosen
}
