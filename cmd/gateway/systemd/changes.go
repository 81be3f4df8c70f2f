package systemd

import (
	"context"
	"slices"

	"github.com/godbus/dbus/v5"
)

// Changes returns a channel that has something when the manager has said that one of the units may have changed, from now
// until the context ends or the manager hangs up, when it is closed. Several changes may be one.
func (m Manager) Changes(ctx context.Context, names ...string) (<-chan struct{}, error) {
	conn, signals, err := m.signals(ctx)
	if err != nil {
		return nil, err
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

// Told returns what the manager says of a unit each time that something of it has changed, as it was then: who asks when told may
// come too late for it. The channel is closed as that of [Manager.Changes].
func (m Manager) Told(ctx context.Context, name string) (<-chan Properties, error) {
	conn, signals, err := m.signals(ctx)
	if err != nil {
		return nil, err
	}
	path, told := unitPath(name), make(chan Properties)
	go func() {
		defer close(told)
		defer conn.Close()
		for signal := range signals {
			// org.freedesktop.DBus.Properties.PropertiesChanged: the interface, what has changed, and what is to be asked for.
			if signal.Path != path || len(signal.Body) != 3 {
				continue
			}
			changed, _ := signal.Body[1].(map[string]dbus.Variant)
			said := Properties{}
			for name, value := range changed {
				said[name] = text(name, value.Value())
			}
			select {
			case told <- said:
			case <-ctx.Done():
				return
			}
		}
	}()
	return told, nil
}

// signals has what the manager says unasked, until the connection is closed or ends with the context.
func (m Manager) signals(ctx context.Context) (*dbus.Conn, <-chan *dbus.Signal, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	if m.overBus() { // without one all signals come to everybody
		err = conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(managerName))
		if err == nil {
			err = conn.Object(managerName, "/org/freedesktop/systemd1").CallWithContext(ctx, managerName+".Manager.Subscribe", 0).Err
		}
		if err != nil {
			_ = conn.Close()
			return nil, nil, err
		}
	}
	return conn, signals, nil
}
