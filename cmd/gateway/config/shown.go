package config

import (
	"cmp"
	"fmt"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
)

// Shown is a value of a configuration for people and the log, without what may
// be a secret. It is never empty: the log leaves out what is.
func Shown(cfg *Config, value Value) string {
	text := fmt.Sprint(value.Value)
	switch value.Key {
	case "worker.environment":
		text = variableNames(cfg.Worker.Environment)
	case "worker.command":
		text = say.CommandLine(cfg.Worker.Command)
	case "alarm.command":
		text = say.CommandLine(cfg.Alarm.Command)
	case "ready.path":
		text = say.URL(cfg.Ready.Path)
	case "alive.path":
		text = say.URL(cfg.Alive.Path)
	}
	return cmp.Or(text, `""`)
}

func variableNames(environment []string) string {
	names := make([]string, 0, len(environment))
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, name)
	}
	return strings.Join(names, " ")
}
