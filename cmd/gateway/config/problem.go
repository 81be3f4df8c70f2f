package config

import (
	"fmt"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
)

// Problem is one mistake in the configuration.
type Problem struct {
	File    string // the file as it was named to Load, or the name of a variable
	Line    int    // counted from 1; 0 if the place has no lines
	Key     string // dotted, such as worker.handoff; empty if the mistake is not about one key
	Message string // what is wrong and what is right
}

// String is one line, such as `config.yaml:12: worker.handoff: "foo" is not one of auto, listen-fds, preload`.
func (p Problem) String() string {
	text := p.place() + ": "
	if p.Key != "" {
		text += p.Key + ": "
	}
	return text + p.Message
}

func (p Problem) place() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// Errors is every mistake in a configuration, in the order of the lines. [Load] returns it as its error.
type Errors []Problem

// Error is one line a problem.
func (e Errors) Error() string { return strings.Join(say.Texts(e), "\n") }
