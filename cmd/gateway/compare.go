package main

import (
	"slices"
)

// effects says when a change of a key takes effect; what is not here concerns
// the worker that runs, which is replaced.
var effects = map[string]effect{
	"worker.start":             nextLauncher,
	"worker.idle_stop":         atOnce,
	"restart.backoff_min":      nextFailure,
	"restart.backoff_max":      nextFailure,
	"restart.reset_after":      nextFailure,
	"restart.fatal_exit_codes": nextFailure,
	"front_desk":               atOnce,
	"log.level":                atOnce,
	"log.format":               nextLauncher,
}

// compare says what an edit does, key by key.
func compare(from, to *edition) []change {
	var changes []change
	old, values := from.cfg.Values(), to.cfg.Values()
	changed := from.cfg.Changed(to.cfg)
	sameSockets := slices.Equal(from.addresses, to.addresses)
	for i, value := range values {
		if !slices.Contains(changed, value.Key) {
			continue
		}
		c := change{Key: value.Key, From: shownValue(from.cfg, old[i]), To: shownValue(to.cfg, value), Effect: effects[value.Key]}
		if c.From == c.To {
			c.To += " (edited)"
		}
		lacking := slices.ContainsFunc(to.lacks, func(l lack) bool { return l.key == value.Key })
		switch {
		case value.Key == "listen" && sameSockets && lacking:
			c.Effect = withUnits
		case value.Key == "listen" && sameSockets:
			c.Effect = atOnce
		case lacking:
			c.Effect = nowAndWithUnits
		}
		changes = append(changes, c)
	}
	if !slices.Equal(from.fromFile, to.fromFile) && !slices.Contains(changed, "worker.environment") &&
		!slices.Contains(changed, "worker.environment_file") {
		file := to.cfg.Worker.EnvironmentFile
		changes = append(changes, change{Key: "worker.environment_file", From: file, To: file + " (edited)"})
	}
	if !sameSockets && !slices.Contains(changed, "listen") {
		// This machine has got one of them since, or lost it.
		changes = append(changes, change{Key: "listen", From: joinAddresses(from.addresses), To: joinAddresses(to.addresses)})
	}
	for i := range changes {
		if changes[i].Effect == "" {
			changes[i].Effect = nextGeneration
		}
	}
	return changes
}
