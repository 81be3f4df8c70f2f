package units

import (
	"bytes"
	"strings"
)

// Choice is what whoever installs the units can choose, and who renders them again can keep.
type Choice struct {
	RunAs    string // empty: root, or in a user's scope that user
	Config   string // empty: the scope's default
	Hardened bool
}

// Chosen returns what our service in dir below root (see [OpenDir]) was rendered with; nothing if there is no service. It
// fails if the service is not ours ([ErrForeign]).
func Chosen(root, dir string) (Choice, error) {
	texts, err := read(root, dir, Service)
	if err != nil {
		return Choice{}, err
	}
	return ChosenIn(texts[Service]), nil
}

// Ours reports whether a unit with this text was written by this program.
func Ours(text []byte) bool { return bytes.HasPrefix(text, []byte(marker)) }

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
			if _, path, ok := strings.Cut(command, " run --config "); ok {
				chosen.Config = unquoteArgument(path)
			}
		}
		chosen.Hardened = chosen.Hardened || line == hardenedLine
	}
	return chosen
}
