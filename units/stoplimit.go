package units

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// managerName is systemd's name on a bus, and what its interfaces begin with: org.freedesktop.systemd1(5).
const managerName = "org.freedesktop.systemd1"

// NeededStopLimit is the TimeoutStopSec that a worker with this stop.timeout needs, and that [Render] writes.
func NeededStopLimit(stopTimeout time.Duration) time.Duration { return stopTimeout + stopMargin }

// StopLimit asks the manager of the scope for the TimeoutStopSec of the service that this process belongs to, drop-ins
// included; without a limit it is the longest duration there is. It starts no process.
func StopLimit(ctx context.Context, scope Scope) (time.Duration, error) {
	conn, err := dialManager(ctx, scope)
	if err != nil {
		return 0, fmt.Errorf("connect to the manager of the %s scope: %w", scope, err)
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

// dialManager connects to systemd itself, which needs no bus daemon; only a user without privileges has to reach the
// system's manager over the bus.
func dialManager(ctx context.Context, scope Scope) (conn *dbus.Conn, err error) {
	greet := ping
	switch {
	case scope == User:
		directory := os.Getenv("XDG_RUNTIME_DIR")
		if !filepath.IsAbs(directory) {
			return nil, errors.New("XDG_RUNTIME_DIR is not set")
		}
		conn, err = dbus.Dial("unix:path="+filepath.Join(directory, "systemd/private"), dbus.WithContext(ctx))
	case os.Geteuid() == 0:
		conn, err = dbus.Dial("unix:path=/run/systemd/private", dbus.WithContext(ctx))
	default:
		conn, err = dbus.SystemBusPrivate(dbus.WithContext(ctx))
		greet = (*dbus.Conn).Hello
	}
	if err != nil {
		return nil, err
	}
	// By number: to look the name up can need the network.
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil {
		err = greet(conn)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// ping sends a message that asks for nothing and is longer than what systemd reads at once while it authenticates (256
// bytes in 252, bus-socket.c): a shorter first one that comes together with the end of the authentication would wait in
// that buffer for another.
func ping(conn *dbus.Conn) error {
	padding := strings.Repeat(" ", 4096)
	return conn.Object(managerName, "/").Call("org.freedesktop.DBus.Peer.Ping", dbus.FlagNoReplyExpected, padding).Err
}
