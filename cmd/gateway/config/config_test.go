package config

import (
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw-gateway/netaddr"

	"github.com/google/go-cmp/cmp"
)

// equateAddresses lets cmp compare netaddr.Address, which has unexported fields.
var equateAddresses = cmp.Comparer(func(a, b netaddr.Address) bool { return a == b })

func TestFieldsAreAllKeys(t *testing.T) {
	// The tags, which mapstructure goes by, and fields(), which all else goes by, must tell the same.
	var fromTags []string
	var walk func(prefix string, s reflect.Type)
	walk = func(prefix string, s reflect.Type) {
		for f := range s.Fields() {
			tag := f.Tag.Get("mapstructure")
			switch {
			case tag == "-":
			case f.Type.Kind() == reflect.Struct:
				walk(prefix+tag+".", f.Type)
			default:
				fromTags = append(fromTags, prefix+tag)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
	if diff := cmp.Diff(fromTags, keys()); diff != "" {
		t.Errorf("tags (-) and fields() (+) differ:\n%s", diff)
	}
}

func TestChanged(t *testing.T) {
	tests := map[string]struct {
		edit func(c *Config)
		want []string
	}{
		"nothing": {func(*Config) {}, nil},
		"only where it comes from": {func(c *Config) {
			c.Path = "elsewhere.yaml"
			c.Source = map[string]string{"listen": "elsewhere.yaml:1"}
		}, nil},
		"no list is an empty list": {func(c *Config) { c.Worker.Command = nil }, nil},
		"several, in file order": {func(c *Config) {
			c.Log.Level = slog.LevelDebug
			c.FrontDesk = false
			c.Stop.Signal = syscall.SIGINT
			c.Worker.Command = []string{"node"}
			c.Listeners = c.Listeners[:1]
		}, []string{"listen", "worker.command", "stop.signal", "front_desk", "log.level"}},
		"order in a list": {func(c *Config) { slices.Reverse(c.Listeners) }, []string{"listen"}},
		"less than a second": {
			func(c *Config) { c.Restart.BackoffMin += time.Nanosecond },
			[]string{"restart.backoff_min"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			other := Default()
			test.edit(other)
			if diff := cmp.Diff(test.want, Default().Changed(other)); diff != "" {
				t.Errorf("changed keys (-want +got):\n%s", diff)
			}
		})
	}
}

func TestValues(t *testing.T) {
	c, err := load("c.yaml", []byte("stop:\n  timeout: 90m\n"), variables(map[string]string{"GATEWAY_LOG_LEVEL": "warn"}))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Value{}
	for _, value := range c.Values() {
		got[value.Key] = value
	}
	for _, want := range []Value{
		{"listen", []string{"127.0.0.1:18789", "[::1]:18789"}, "default"},
		{"worker.command", []string{}, "default"},
		{"worker.idle_stop", "0s", "default"},
		{"ready.timeout", "5m", "default"},
		{"stop.signal", "SIGTERM", "default"},
		{"stop.timeout", "1h30m", "c.yaml:2"},
		{"restart.fatal_exit_codes", []int{78}, "default"},
		{"front_desk", true, "default"},
		{"log.level", "warn", "GATEWAY_LOG_LEVEL"},
	} {
		if diff := cmp.Diff(want, got[want.Key]); diff != "" {
			t.Errorf("value (-want +got):\n%s", diff)
		}
	}
}

func TestDurationText(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "1s": time.Second, "10s": 10 * time.Second, "1m": time.Minute, "10m": 10 * time.Minute,
		"5m27s": 327 * time.Second, "1h": time.Hour, "1h30m": 90 * time.Minute, "10h": 10 * time.Hour,
		"1h0m1s": time.Hour + time.Second, "250ms": 250 * time.Millisecond,
	} {
		got := durationText(d)
		if back, err := time.ParseDuration(got); got != want || back != d {
			t.Errorf("durationText(%d) = %q (%v, %v), want %q", d, got, back, err, want)
		}
	}
}

// variables stands in for the environment.
func variables(set map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := set[name]
		return value, ok
	}
}

var noVariables = variables(nil)

// lines makes a file of its arguments.
func lines(line ...string) []byte {
	return []byte(strings.Join(line, "\n") + "\n")
}
