package launcher

import (
	"cmp"
	"maps"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
)

// effects says when a change of a key takes effect; what is not here concerns
// the worker that runs, which is replaced.
var effects = map[string]api.Effect{
	"worker.start":             api.EffectNextLauncherAndBoot,
	"worker.idle_stop":         api.EffectAtOnce,
	"alive.queue":              api.EffectAtOnce,
	"alive.path":               api.EffectAtOnce,
	"alive.interval":           api.EffectAtOnce,
	"alive.timeout":            api.EffectAtOnce,
	"alive.failures":           api.EffectAtOnce,
	"alive.restart":            api.EffectAtOnce,
	"alive.stop_timeout":       api.EffectAtOnce,
	"restart.mode":             api.EffectAtOnce,
	"restart.standby":          api.EffectAtOnce,
	"restart.prewarm":          api.EffectAtOnce,
	"restart.prewarm_timeout":  api.EffectAtOnce,
	"restart.backoff_min":      api.EffectNextFailure,
	"restart.backoff_max":      api.EffectNextFailure,
	"restart.reset_after":      api.EffectNextFailure,
	"restart.fatal_exit_codes": api.EffectNextFailure,
	"restart.after_exit_0":     api.EffectAtOnce,
	"front_desk":               api.EffectAtOnce,
	"alarm.command":            api.EffectAtOnce,
	"alarm.after":              api.EffectAtOnce,
	"log.level":                api.EffectAtOnce,
	"log.format":               api.EffectNextLauncher,
}

// compare says what an edit does, key by key.
func compare(from, to *edition) []api.Change {
	var changes []api.Change
	old, values := from.cfg.Values(), to.cfg.Values()
	changed := from.cfg.Changed(to.cfg)
	sameSockets := slices.Equal(from.addresses, to.addresses)
	sameNames := maps.Equal(from.cfg.Names, to.cfg.Names) // which the worker is told
	for i, value := range values {
		if !slices.Contains(changed, value.Key) {
			continue
		}
		c := api.Change{
			Key: value.Key, From: config.Shown(from.cfg, old[i]), To: config.Shown(to.cfg, value),
			Effect: cmp.Or(effects[value.Key], api.EffectNextGeneration),
		}
		if c.From == c.To {
			c.To += " (edited)"
		}
		lacking := slices.ContainsFunc(to.drifts, func(d drift) bool { return d.key == value.Key })
		switch {
		case value.Key == "listen" && sameSockets && lacking:
			c.Effect = api.EffectWithUnits
		case value.Key == "listen" && sameSockets && sameNames:
			c.Effect = api.EffectAtOnce
		case lacking:
			c.Effect = api.EffectNowAndWithUnits
		}
		changes = append(changes, c)
	}
	if !slices.Equal(from.fromFile, to.fromFile) && !slices.Contains(changed, "worker.environment") &&
		!slices.Contains(changed, "worker.environment_file") {
		file := to.cfg.Worker.EnvironmentFile
		changes = append(changes, api.Change{Key: "worker.environment_file", From: file, To: file + " (edited)", Effect: api.EffectNextGeneration})
	}
	if !sameSockets && !slices.Contains(changed, "listen") {
		// This machine has got one of them since, or lost it.
		changes = append(changes, api.Change{
			Key: "listen", From: say.Addresses(from.addresses), To: say.Addresses(to.addresses), Effect: api.EffectNextGeneration,
		})
	}
	return changes
}
