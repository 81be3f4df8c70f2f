package units

import (
	"bytes"
	"strings"
)

// Chosen returns the user and the configuration that our service in dir below root (see [OpenDir]) was rendered with,
// each empty if it was not given or if there is no service: so that whoever renders it again can keep them. It fails if
// the service is not ours ([ErrForeign]).
func Chosen(root, dir string) (runAs, config string, err error) {
	texts, err := read(root, dir, Service)
	if err != nil {
		return "", "", err
	}
	runAs, config = ChosenIn(texts[Service])
	return runAs, config, nil
}

// ChosenIn is [Chosen] for the text of a service; of one that is not ours it returns nothing.
func ChosenIn(text []byte) (runAs, config string) {
	if !bytes.HasPrefix(text, []byte(marker)) {
		return "", ""
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if name, ok := strings.CutPrefix(line, "User="); ok {
			runAs = name
		}
		if command, ok := strings.CutPrefix(line, "ExecStart="); ok {
			if _, path, ok := strings.Cut(command, " run --config "); ok {
				config = unquoteArgument(path)
			}
		}
	}
	return runAs, config
}
