package systemd

import (
	"context"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/godbus/dbus/v5"
)

// StopLimit asks the caller's own manager, or the system's, for the TimeoutStopSec of the service that this process belongs
// to, drop-ins included; without a limit it is the longest duration there is. It starts no process.
func (m Manager) StopLimit(ctx context.Context) (time.Duration, error) {
	conn, err := m.dial(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect to the manager of this service: %w", err)
	}
	defer conn.Close()
	var unit dbus.ObjectPath
	err = conn.Object(managerName, "/org/freedesktop/systemd1").
		CallWithContext(ctx, managerName+".Manager.GetUnitByPID", 0, uint32(os.Getpid())).Store(&unit)
	if err != nil {
		return 0, fmt.Errorf("ask for the unit of this process: %w", err)
	}
	var limit dbus.Variant
	err = conn.Object(managerName, unit).
		CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, managerName+".Service", "TimeoutStopUSec").Store(&limit)
	if err != nil {
		return 0, fmt.Errorf("ask for TimeoutStopUSec of %s: %w", unit, err)
	}
	microseconds, ok := limit.Value().(uint64)
	if !ok {
		return 0, fmt.Errorf("TimeoutStopUSec of %s is %s", unit, limit)
	}
	if microseconds > math.MaxInt64/1000 { // USEC_INFINITY among them
		return math.MaxInt64, nil
	}
	return time.Duration(microseconds) * time.Microsecond, nil
}
