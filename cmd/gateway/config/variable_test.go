package config

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"openclaw-gateway/netaddr"

	"github.com/google/go-cmp/cmp"
)

func TestVariables(t *testing.T) {
	file := lines("worker:", "  command: [from, file]", "  directory: /file", "front_desk: false", "log: {level: error}")
	tests := map[string]struct {
		set  map[string]string
		edit func(c *Config)
	}{
		"none":    {nil, func(*Config) {}},
		"empty":   {map[string]string{"GATEWAY_WORKER_DIRECTORY": "", "GATEWAY_LISTEN": ""}, func(*Config) {}},
		"unknown": {map[string]string{"GATEWAY_GENERATION": "3", "GATEWAY_TOKEN": "x", "GATEWAY_WORKER": "y"}, func(*Config) {}},
		"a text as it stands": {
			map[string]string{"GATEWAY_WORKER_DIRECTORY": "/a b: #c [d"},
			func(c *Config) { c.Worker.Directory = "/a b: #c [d" },
		},
		"a list": {
			map[string]string{"GATEWAY_WORKER_COMMAND": `["node", 'x.js', plain]`},
			func(c *Config) { c.Worker.Command = []string{"node", "x.js", "plain"} },
		},
		"an empty list": {
			map[string]string{"GATEWAY_WORKER_COMMAND": `[]`},
			func(c *Config) { c.Worker.Command = []string{} },
		},
		"a list of one": {
			map[string]string{"GATEWAY_WORKER_COMMAND": "/usr/bin/my server: 2"},
			func(c *Config) { c.Worker.Command = []string{"/usr/bin/my server: 2"} },
		},
		"an address in brackets": {
			map[string]string{"GATEWAY_LISTEN": "[::1]:80"},
			func(c *Config) {
				c.Listeners = []Listener{{Address: netaddr.MustParse("[::1]:80")}}
				c.listened()
			},
		},
		"others": {
			map[string]string{
				"GATEWAY_FRONT_DESK": "true", "GATEWAY_LOG_LEVEL": "debug", "GATEWAY_STOP_TIMEOUT": "5s",
				"GATEWAY_RESTART_FATAL_EXIT_CODES": "3",
			},
			func(c *Config) {
				c.FrontDesk, c.Log.Level, c.Stop.Timeout, c.Restart.FatalExitCodes = true, -4, 5e9, []int{3}
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want, err := load("c.yaml", file, noVariables)
			if err != nil {
				t.Fatal(err)
			}
			test.edit(want)
			got, err := load("c.yaml", file, variables(test.set))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got, equateAddresses, ignoreSource); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
		})
	}
}

// TestVariableOfEachKey: each key can be set by its variable, to whatever it can be set to in the file.
func TestVariableOfEachKey(t *testing.T) {
	texts := map[string]string{
		"worker.directory": "/srv", "worker.environment_file": "/srv/env", "ready.path": "/ready", "ready.host": "app.example.org:8443", "alive.path": "/alive",
	}
	for _, value := range Default().Values() {
		text, given := texts[value.Key]
		if _, isText := value.Value.(string); !given && isText {
			text = value.Value.(string)
		} else if !given {
			written, err := json.Marshal(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			text = string(written)
		}
		name := variable(value.Key)
		got, err := load("", nil, variables(map[string]string{name: text}))
		if err != nil {
			t.Errorf("%s=%s: %v", name, text, err)
		} else if got.Source[value.Key] != name {
			t.Errorf("%s=%s: %s is from %q", name, text, value.Key, got.Source[value.Key])
		}
	}
}

func TestBlamed(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "c.yaml:2: ready.timeout: 10 has no unit": "", "GATEWAY_TOKEN: x": "",
		"GATEWAY_READY_TIMEOUT: ready.timeout: 10 has no unit: 10s?":                              "GATEWAY_READY_TIMEOUT",
		"c.yaml:2: x\nGATEWAY_LISTEN: listen: a\nGATEWAY_LISTEN: listen: b\nGATEWAY_LOG_LEVEL: c": "GATEWAY_LISTEN GATEWAY_LOG_LEVEL",
	} {
		if got := strings.Join(Blamed(text), " "); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestVariablesOfTheProcess(t *testing.T) {
	t.Setenv("GATEWAY_LOG_LEVEL", "warn")
	c, err := Load("")
	if err != nil {
		t.Fatal(err)
	}
	if c.Log.Level != 4 || c.Source["log.level"] != "GATEWAY_LOG_LEVEL" {
		t.Errorf("level %v from %q", c.Log.Level, c.Source["log.level"])
	}
}

func TestVariableMistakes(t *testing.T) {
	tests := map[string]struct {
		set  map[string]string
		want []string
	}{
		"the file is right": {
			map[string]string{"GATEWAY_WORKER_HANDOFF": "foo", "GATEWAY_STOP_TIMEOUT": "5"},
			[]string{
				"GATEWAY_STOP_TIMEOUT: stop.timeout: 5 has no unit: 5s? (units are ms, s, m and h)",
				`GATEWAY_WORKER_HANDOFF: worker.handoff: "foo" is not one of auto, listen-fds, preload, intercept`,
			},
		},
		"no list": {
			map[string]string{"GATEWAY_WORKER_COMMAND": `["node", "x.js"`},
			[]string{`GATEWAY_WORKER_COMMAND: worker.command: not valid YAML: did not find expected ',' or ']'`},
		},
		"numbers in a list": {
			map[string]string{"GATEWAY_WORKER_COMMAND": `["--port", 80]`},
			[]string{"GATEWAY_WORKER_COMMAND: worker.command: want a text, not a number: put it in quotes"},
		},
		"nothing in a list": {
			map[string]string{"GATEWAY_WORKER_COMMAND": `[null]`},
			[]string{"GATEWAY_WORKER_COMMAND: worker.command: entry 1 has no value"},
		},
		"only a comment":  {map[string]string{"GATEWAY_FRONT_DESK": "# x"}, []string{"GATEWAY_FRONT_DESK: front_desk: has no value"}},
		"a word for bool": {map[string]string{"GATEWAY_FRONT_DESK": "maybe"}, []string{`GATEWAY_FRONT_DESK: front_desk: want true or false, not "maybe"`}},
		"an address":      {map[string]string{"GATEWAY_LISTEN": "localhost:80"}, []string{`GATEWAY_LISTEN: listen: "localhost:80" is not an IP address with a port from 1 to 65535: use 127.0.0.1:80 or [::1]:80`}},
		"against a default": {
			map[string]string{"GATEWAY_RESTART_BACKOFF_MIN": "1h"},
			[]string{"GATEWAY_RESTART_BACKOFF_MIN: restart.backoff_min: backoff_min (1h) is longer than backoff_max (2m)"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for file, content := range map[string][]byte{"": nil, "c.yaml": lines("stop: {timeout: 1m}")} {
				_, err := load(file, content, variables(test.set))
				if !errors.As(err, new(Errors)) {
					t.Fatalf("with file %q: error %v", file, err)
				}
				if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
					t.Errorf("with file %q: problems (-want +got):\n%s", file, diff)
				}
			}
		})
	}
	t.Run("together with the file", func(t *testing.T) {
		_, err := load("z.yaml", lines("", "front_desk: 1"), variables(map[string]string{"GATEWAY_LOG_LEVEL": "loud"}))
		want := "z.yaml:2: front_desk: want true or false, not a number\n" +
			`GATEWAY_LOG_LEVEL: log.level: "loud" is not one of debug, info, warn, error`
		if err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	})
}
