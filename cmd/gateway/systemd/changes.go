package systemd

import (
	"context"
	"slices"

	"github.com/godbus/dbus/v5"
)

// Changes returns a channel that has something when the manager has said that one of the units may have changed, from now
// until the context ends or the manager hangs up, when it is closed. Several changes may be one.
func (m Manager) Changes(ctx context.Context, names ...string) (<-chan struct{}, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if m.overBus() { // without one all signals come unasked
		err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(managerName))
		if err == nil {
			err = conn.Object(managerName, "/org/freedesktop/systemd1").CallWithContext(ctx, managerName+".Manager.Subscribe", 0).Err
		}
		if err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	paths := make([]dbus.ObjectPath, len(names))
	for i, name := range names {
		paths[i] = unitPath(name)
	}
	changes := make(chan struct{}, 1)
	go func() {
		defer close(changes)
		defer conn.Close()
		for signal := range signals { // closed with the connection
			if slices.Contains(paths, signal.Path) {
				select {
				case changes <- struct{}{}:
				default:
				}
			}
		}
	}()
	return changes, nil
}
