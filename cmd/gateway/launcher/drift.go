package launcher

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/dropins"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
)

// drift is what the units lack for a configuration that can be applied.
type drift struct{ key, problem string }

// drifts compares a configuration with the units that run. With an error, which
// systemd's answer within limit would have avoided, stop.timeout was not compared. What the units say of the sockets' queues
// is taken over.
func (h *heldSockets) drifts(cfg *config.Config, limit time.Duration) (drifts []drift, err error) {
	if h.kind != api.FromSystemd {
		return nil, nil
	}
	held, _ := h.current()
	bindable, _ := systemd.Bindable(cfg.Listen)
	_, missing, _ := held.Select(bindable, cfg.DualStack)
	_, _, unwanted := held.Select(cfg.Listen, cfg.DualStack)
	unwanted = slices.DeleteFunc(unwanted, netaddr.Address.IsUnix) // see besides
	needed := units.NeededStopLimit(cfg.Stop.Timeout)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, address := range missing {
		if others := systemd.Misplaced(address); others != nil && h.scope() == units.System {
			drifts = append(drifts, drift{"listen", systemd.Elsewhere(address, others, h.of)})
			missing = slices.DeleteFunc(slices.Clone(missing), func(a netaddr.Address) bool { return a == address })
		}
	}
	if len(missing) > 0 {
		drifts = append(drifts, drift{"listen", fmt.Sprintf(
			"listen has %s, but systemd does not hold it: %s", say.Listen(missing, cfg.DualStack), h.mend(ctx, "ListenStream", "BindIPv6Only"))})
	}
	if len(unwanted) > 0 {
		drifts = append(drifts, drift{"listen", fmt.Sprintf(
			"systemd holds %s, which is not in listen and is not handed to the worker: %s", say.Addresses(unwanted), h.mend(ctx, "ListenStream"))})
	}
	for _, socket := range held {
		if access, wanted := cfg.Access[socket.Address]; wanted {
			owner, err := systemd.Owner(access)
			if err != nil {
				drifts = append(drifts, drift{"listen", fmt.Sprintf("%v, who shall have %s: make it, or name another in listen, and %s", err, socket.Address, h.mend(ctx))})
			} else if lacks := socket.Lacks(owner); lacks != "" {
				drifts = append(drifts, drift{"listen", fmt.Sprintf("%s has %s, and listen wants %s: %s",
					socket.Address, lacks, accessText(access), h.mend(ctx, "ExecStartPost", "SocketMode"))})
			}
		}
	}
	granted, err := systemd.Of(h.scope()).Granted(ctx)
	if err != nil {
		h.log.Debug("cannot compare stop.timeout with the unit", "error", err)
		return drifts, err
	}
	held.SetBacklog(granted.Backlog)
	if granted.Stop < needed {
		drifts = append(drifts, drift{"stop.timeout", fmt.Sprintf(
			"stop.timeout is %s, but systemd kills the service after %s (TimeoutStopSec), and %s are needed: %s",
			cfg.Stop.Timeout, granted.Stop, needed, h.mend(ctx, "TimeoutStopSec"))})
	}
	return drifts, nil
}

func accessText(access netaddr.Access) string {
	text := "mode " + cmp.Or(access.Mode, "0600")
	if access.User != "" {
		text += ", user " + access.User
	}
	if access.Group != "" {
		text += ", group " + access.Group
	}
	return text
}

// mend says what to run so that the settings of the units are what a configuration asks for.
func (h *heldSockets) mend(ctx context.Context, settings ...string) string {
	if h.kind != api.FromSystemd {
		return h.renderAgain()
	}
	found, err := systemd.Of(h.scope()).Show(ctx, []string{h.of.Socket(), h.of.Service()}, dropins.Properties...)
	if err != nil {
		return h.renderAgain()
	}
	for _, o := range dropins.In(found) {
		if slices.Contains(settings, o.Setting) {
			return fmt.Sprintf("%s says so, a drop-in: `%s` has the command that takes that out", say.List(o.Files), gateway(h.of, "doctor"))
		}
	}
	return h.renderAgain()
}

// How long systemd may take to say what stop.timeout is compared with: when a
// configuration is applied, and when the status is asked, whose client does not
// wait longer than client.AnswerLimit.
const (
	driftLimit      = 5 * time.Second
	driftAgainLimit = 500 * time.Millisecond
)
