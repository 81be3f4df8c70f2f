package launcher

import (
	"context"
	"fmt"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units"
)

// lack is what the units lack for a configuration that can be applied.
type lack struct{ key, problem string }

// lacks compares a configuration with the units that run. With an error, which
// systemd's answer within limit would have avoided, stop.timeout was not compared.
func (l *launcher) lacks(cfg *config.Config, limit time.Duration) (lacks []lack, err error) {
	if l.held.kind != api.FromSystemd {
		return nil, nil
	}
	held, _ := l.held.now()
	_, missing, unwanted := held.Select(cfg.Listen)
	if len(missing) > 0 {
		lacks = append(lacks, lack{"listen", fmt.Sprintf(
			"listen has %s, but systemd does not hold it: %s", say.Addresses(missing), renderAgain)})
	}
	if len(unwanted) > 0 {
		lacks = append(lacks, lack{"listen", fmt.Sprintf(
			"systemd holds %s, which is not in listen and is not handed to the worker: %s", say.Addresses(unwanted), renderAgain)})
	}
	needed := units.NeededStopLimit(cfg.Stop.Timeout)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	granted, err := units.StopLimit(ctx, l.scope())
	if err != nil {
		l.log.Debug("cannot compare stop.timeout with the unit", "error", err)
		return lacks, err
	}
	if granted < needed {
		lacks = append(lacks, lack{"stop.timeout", fmt.Sprintf(
			"stop.timeout is %s, but systemd kills the service after %s (TimeoutStopSec), and %s are needed: %s",
			cfg.Stop.Timeout, granted, needed, renderAgain)})
	}
	return lacks, nil
}

// How long systemd may take to say what stop.timeout is compared with: when a
// configuration is applied, and when the status is asked, whose client does not
// wait longer than answerLimit.
const (
	lacksLimit      = 5 * time.Second
	lacksAgainLimit = 500 * time.Millisecond
)

// problems says what is wrong with the configuration that is in use.
func (l *launcher) problems() []string {
	problems := []string{}
	if current := l.current(); current != nil && len(current.lacks) > 0 {
		// It may have been mended since; where systemd does not say, it is as it was.
		lacks, err := l.lacks(current.cfg, lacksAgainLimit)
		if err != nil {
			lacks = current.lacks
		}
		for _, lack := range lacks {
			problems = append(problems, lack.problem)
		}
	}
	for _, refused := range l.held.refused {
		problems = append(problems, refused.Error())
	}
	return problems
}

const renderAgain = "run \"gateway install\" again, which renders the units and restarts the socket"
