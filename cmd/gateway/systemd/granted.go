package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Granted is what the units of this process grant it, drop-ins included.
type Granted struct {
	Stop    time.Duration // TimeoutStopSec= of the service; without a limit it is the longest duration there is
	Backlog int           // Backlog= of the socket units that start the service, the longest; 0: none does
}

// Granted asks the caller's own manager, or the system's, about the service that this process belongs to. It starts no process.
func (m Manager) Granted(ctx context.Context) (granted Granted, err error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return Granted{}, fmt.Errorf("connect to the manager of this service: %w", err)
	}
	defer conn.Close()
	manager := conn.Object(managerName, "/org/freedesktop/systemd1")
	var unit dbus.ObjectPath
	if err := manager.CallWithContext(ctx, managerName+".Manager.GetUnitByPID", 0, uint32(os.Getpid())).Store(&unit); err != nil {
		return Granted{}, fmt.Errorf("ask for the unit of this process: %w", err)
	}
	ask := func(unit dbus.ObjectPath, kind, name string, value any) error {
		var answer dbus.Variant
		err := conn.Object(managerName, unit).
			CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerName+"."+kind, name).Store(&answer)
		if err == nil {
			err = answer.Store(value)
		}
		if err != nil {
			return fmt.Errorf("ask for %s of %s: %w", name, unit, err)
		}
		return nil
	}
	var microseconds uint64
	var triggers []string
	if err := errors.Join(ask(unit, "Service", "TimeoutStopUSec", &microseconds), ask(unit, "Unit", "TriggeredBy", &triggers)); err != nil {
		return Granted{}, err
	}
	granted.Stop = time.Duration(microseconds) * time.Microsecond
	if microseconds > math.MaxInt64/1000 { // USEC_INFINITY among them
		granted.Stop = math.MaxInt64
	}
	for _, trigger := range triggers {
		var socket dbus.ObjectPath
		var backlog uint32
		if !strings.HasSuffix(trigger, ".socket") {
			continue
		}
		err := manager.CallWithContext(ctx, managerName+".Manager.GetUnit", 0, trigger).Store(&socket)
		if err = cmp.Or(err, ask(socket, "Socket", "Backlog", &backlog)); err != nil {
			return Granted{}, fmt.Errorf("ask about %s: %w", trigger, err)
		}
		granted.Backlog = max(granted.Backlog, int(min(backlog, math.MaxInt32)))
	}
	return granted, nil
}
