package config

import (
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// decodeHook turns a value of the file into a value of the type to is of, and refuses what mapstructure would bend into
// shape: it makes 5 ns of "timeout: 5", and a list of one of a text. It has the signature that
// mapstructure.DecodeHookFuncValue asks for, and sees each entry of a list after the list.
func decodeHook(from, to reflect.Value) (any, error) {
	if from.Type() == to.Type() {
		return from.Interface(), nil // a default
	}
	mistaken := func(wanted string) (any, error) { return nil, fmt.Errorf("want %s, not %s", wanted, typeOf(from)) }
	text, isText := from.Interface().(string)
	switch to.Interface().(type) {
	case time.Duration:
		return parseDuration(from)
	case Listener:
		return parseListener(from)
	case syscall.Signal:
		if isText {
			return parseSignal(text)
		}
		return mistaken("the name of a signal such as SIGTERM")
	case slog.Level:
		if i := slices.Index(levelNames(), text); i >= 0 {
			return levels[i], nil
		}
		return nil, fmt.Errorf("%v is not one of %s", quoted(from), strings.Join(levelNames(), ", "))
	}
	if from.Kind() == to.Kind() {
		return from.Interface(), nil
	}
	switch to.Kind() {
	case reflect.String:
		if from.Kind() == reflect.Slice {
			return mistaken("a text")
		}
		return nil, fmt.Errorf("want a text, not %s: put it in quotes", typeOf(from))
	case reflect.Slice:
		return mistaken("a list such as " + listExample(to))
	case reflect.Bool:
		return nil, fmt.Errorf("want true or false, not %v", quoted(from))
	case reflect.Int:
		return mistaken("a whole number")
	}
	return from.Interface(), nil
}

var levels = []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

func levelNames() []string {
	var names []string
	for _, level := range levels {
		names = append(names, strings.ToLower(level.String()))
	}
	return names
}

// parseDuration accepts what time.ParseDuration does, if it is not negative: 300ms, 10s, 5m, 1h30m.
func parseDuration(from reflect.Value) (any, error) {
	const units = "units are ms, s, m and h"
	text, isText := from.Interface().(string)
	if !isText && !from.CanInt() && !from.CanUint() && !from.CanFloat() {
		return nil, fmt.Errorf("want a duration such as 10s, not %s (%s)", typeOf(from), units)
	}
	if !isText {
		text = fmt.Sprint(from.Interface())
	}
	d, err := time.ParseDuration(text)
	switch {
	case err == nil && d < 0:
		return nil, fmt.Errorf("%s is negative", text)
	case err == nil && (isText || d != 0):
		return d, nil
	}
	if _, err := time.ParseDuration(text + "s"); err == nil {
		return nil, fmt.Errorf("%s has no unit: %ss? (%s)", text, text, units)
	}
	return nil, fmt.Errorf("%q is not a duration such as 10s or 1h30m (%s)", text, units)
}

// parseSignal accepts the names of signal(7), in either case and with or without SIG. SIGKILL is among them, for a worker
// that has nothing to save; SIGSTOP is not, because it ends nothing.
func parseSignal(text string) (any, error) {
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(text), "SIG")
	signal := unix.SignalNum(name)
	switch signal {
	case 0:
		return nil, fmt.Errorf("%q is not the name of a signal such as SIGTERM or SIGINT", text)
	case unix.SIGSTOP:
		return nil, fmt.Errorf("%s only suspends the worker: use SIGTERM, or what your worker stops at", name)
	}
	return signal, nil
}

// typeOf says what a value is, for a person, without the value: it may be a secret.
func typeOf(value reflect.Value) string {
	switch {
	case value.Kind() == reflect.String:
		return "a text"
	case value.Kind() == reflect.Bool:
		return "true or false"
	case value.CanInt(), value.CanUint():
		return "a number"
	case value.CanFloat():
		return "a number with a fraction"
	case value.Kind() == reflect.Slice:
		return "a list"
	case value.Type() == reflect.TypeFor[time.Time]():
		return "a date"
	default:
		return "a mapping"
	}
}

// quoted is the value itself where it is a scalar.
func quoted(value reflect.Value) string {
	if text, ok := value.Interface().(string); ok {
		return fmt.Sprintf("%q", text)
	}
	return typeOf(value)
}

func listExample(to reflect.Value) string {
	switch to.Interface().(type) {
	case []Listener:
		return `["127.0.0.1:18789"]`
	case []int:
		return "[78]"
	default:
		return `["one", "two"]`
	}
}
