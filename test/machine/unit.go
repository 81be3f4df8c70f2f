package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Unit is the state of a unit at one moment: org.freedesktop.systemd1(5). What its type does not have is zero.
type Unit struct {
	Name           string
	LoadState      string
	ActiveState    string
	SubState       string
	Result         string
	StatusText     string
	InvocationID   string
	MainPID        int // as the machine counts
	ExecMainStatus int
	NRestarts      int
	NAccepted      int
	Job            int // id of the unit's pending job, 0 for none
}

// Active is a condition for WaitUnit: active, and nothing more to do.
func Active(u Unit) bool { return u.ActiveState == "active" && u.Job == 0 }

// Inactive is a condition for WaitUnit: inactive or failed, and nothing more to do.
func Inactive(u Unit) bool {
	return (u.ActiveState == "inactive" || u.ActiveState == "failed") && u.Job == 0
}

// Unit reads the state of a unit.
func (s *Scope) Unit(t testing.TB, unit string) Unit {
	t.Helper()
	return s.WaitUnit(t, unit, commandBound, func(Unit) bool { return true })
}

// WaitUnit returns the first state of a unit for which the condition holds. It looks once, then at each signal about the
// unit from its manager; states shorter than one reading may be missed. At the bound the test fails with the states seen and
// the unit's journal.
func (s *Scope) WaitUnit(t testing.TB, unit string, bound time.Duration, is func(Unit) bool) Unit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	seen, err := s.watch(ctx, unit, is)
	if err != nil {
		var states strings.Builder
		for _, u := range seen {
			fmt.Fprintf(&states, "%+v\n", u)
		}
		t.Fatalf("wait for %s: %v; states seen:\n%sjournal:\n%s", unit, err, states.String(), s.Journal(t, unit))
	}
	return seen[len(seen)-1]
}

// watch returns the different states seen; without an error the last is the one waited for.
func (s *Scope) watch(ctx context.Context, unit string, is func(Unit) bool) (seen []Unit, err error) {
	conn, hangUp, err := s.dialManager(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to its manager: %w", err)
	}
	defer hangUp()
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	object := conn.Object(managerName, unitPath(unit))
	for {
		var raw map[string]dbus.Variant
		// "" asks for the properties of all the unit's interfaces at once.
		err := object.CallWithContext(ctx, "org.freedesktop.DBus.Properties.GetAll", 0, "").Store(&raw)
		if err != nil {
			return seen, errors.Join(fmt.Errorf("read its properties: %w", err), ctx.Err())
		}
		u := newUnit(unit, raw)
		if len(seen) == 0 || seen[len(seen)-1] != u {
			seen = append(seen, u)
		}
		if is(u) {
			return seen, nil
		}
		if err := awaitChange(ctx, signals, unit); err != nil {
			return seen, err
		}
	}
}

// awaitChange returns at a signal after which the unit's state may be another. UnitNew is not among them: to read an
// inactive unit's properties loads it, which sends one.
func awaitChange(ctx context.Context, signals <-chan *dbus.Signal, unit string) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case signal, open := <-signals:
			switch {
			case !open:
				// It is closed with the context too, and select takes either.
				return cmp.Or(ctx.Err(), errors.New("the manager closed the connection"))
			case signal.Path == unitPath(unit), signal.Name == managerName+".Manager.Reloading":
				return nil
			case signal.Name == managerName+".Manager.JobRemoved":
				// A unit that its job loads, starts and finishes in one go sends no change of its own. (uosss: id, job, unit, result)
				if len(signal.Body) == 4 && signal.Body[2] == unit {
					return nil
				}
			}
		}
	}
}

func newUnit(name string, raw map[string]dbus.Variant) Unit {
	u := Unit{
		Name:           name,
		LoadState:      text(raw, "LoadState"),
		ActiveState:    text(raw, "ActiveState"),
		SubState:       text(raw, "SubState"),
		Result:         text(raw, "Result"),
		StatusText:     text(raw, "StatusText"),
		MainPID:        number(raw, "MainPID"),
		ExecMainStatus: number(raw, "ExecMainStatus"),
		NRestarts:      number(raw, "NRestarts"),
		NAccepted:      number(raw, "NAccepted"),
	}
	if id, ok := raw["InvocationID"].Value().([]byte); ok {
		u.InvocationID = fmt.Sprintf("%x", id)
	}
	if job, ok := raw["Job"].Value().([]any); ok && len(job) == 2 {
		id, _ := job[0].(uint32)
		u.Job = int(id)
	}
	return u
}

func text(raw map[string]dbus.Variant, name string) string {
	value, _ := raw[name].Value().(string)
	return value
}

func number(raw map[string]dbus.Variant, name string) int {
	switch value := raw[name].Value().(type) {
	case uint32:
		return int(value)
	case int32:
		return int(value)
	}
	return 0
}

// unitPath escapes as sd_bus_path_encode(3) does.
func unitPath(unit string) dbus.ObjectPath {
	var b strings.Builder
	b.WriteString("/org/freedesktop/systemd1/unit/")
	for i, c := range []byte(unit) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if letter || digit && i > 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return dbus.ObjectPath(b.String())
}
