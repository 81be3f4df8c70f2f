package launcher

import (
	"fmt"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/config"
)

// reading is what one look at the files has found.
type reading struct {
	number   int64 // a look that began later has a higher one
	cfg      *config.Config
	fromFile []string // what worker.environment_file holds
	oddities []config.Oddity
	err      error // why there is nothing to apply
}

// readEnvironment reads what the environment file of a configuration holds.
func (r *reading) readEnvironment() {
	if r.err != nil || r.cfg.Worker.EnvironmentFile == "" {
		return
	}
	r.fromFile, r.oddities, r.err = config.ReadEnvironmentFile(r.cfg.Worker.EnvironmentFile)
	if r.err != nil {
		r.err = inKey(r.cfg, "worker.environment_file", r.err)
	}
}

// emptied refuses an environment file that has become empty while variables of it are in use, as the configuration file is refused.
func (r *reading) emptied(inUse *edition) error {
	if inUse == nil || inUse.cfg.Worker.EnvironmentFile != r.cfg.Worker.EnvironmentFile {
		return nil
	}
	i := slices.IndexFunc(r.oddities, func(o config.Oddity) bool { return o.Line == 0 })
	if i < 0 {
		return nil
	}
	has := map[string]bool{}
	for _, entry := range r.fromFile {
		name, _, _ := strings.Cut(entry, "=")
		has[name] = true
	}
	for _, entry := range inUse.fromFile {
		if name, _, _ := strings.Cut(entry, "="); !has[name] {
			return inKey(r.cfg, "worker.environment_file", fmt.Errorf("%s, and had variables: write a comment (#) into it if none are meant", r.oddities[i]))
		}
	}
	return nil
}
