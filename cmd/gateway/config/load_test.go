package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"openclaw-gateway/netaddr"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var ignoreSource = cmpopts.IgnoreFields(Config{}, "Path", "Content", "Source")

func TestLoadEverything(t *testing.T) {
	content := lines(
		`listen: ["0.0.0.0:80", {address: "[fe80::1%eth0]:8080", name: web}]`,
		`worker:`,
		`  command: [/usr/bin/node, index.js, "--port", "80"]`,
		`  directory: /srv`,
		`  environment:`,
		`    - A=1`,
		`    - EMPTY=`,
		`    - URL=http://x/?a=b`,
		`  environment_file: -/etc/worker.env`,
		`  handoff: preload`,
		`  cache: off`,
		`  start: at-once`,
		`  idle_stop: 10m`,
		`ready: {probe: http, path: "https://example.org/up", timeout: 1m30s}`,
		`alive: {queue: 0s, interval: 1m, timeout: 5s, failures: 1, watchdog: 20s, restart: true, stop_timeout: 1s}`,
		`stop: &stop {signal: int, to: all, timeout: 500ms}`,
		`restart:`,
		`  mode: exclusive`,
		`  standby: true`,
		`  prewarm: on`,
		`  prewarm_timeout: 90s`,
		`  backoff_min: &wait 10ms`,
		`  backoff_max: *wait`,
		`  reset_after: 0s`,
		`  fatal_exit_codes: [1, 255]`,
		`  after_exit_0: wait`,
		`front_desk: false`,
		`alarm: {command: [/bin/ring, "the bell"], after: 90s}`,
		`log: {level: debug, format: json}`,
	)
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Path:      path,
		Listeners: []Listener{{Address: netaddr.MustParse("0.0.0.0:80")}, {Address: netaddr.MustParse("[fe80::1%eth0]:8080"), Name: "web"}},
		Listen:    []netaddr.Address{netaddr.MustParse("0.0.0.0:80"), netaddr.MustParse("[fe80::1%eth0]:8080")},
		Names:     map[netaddr.Address]string{netaddr.MustParse("[fe80::1%eth0]:8080"): "web"},
		Access:    map[netaddr.Address]netaddr.Access{},
		Worker: Worker{
			Command:         []string{"/usr/bin/node", "index.js", "--port", "80"},
			Directory:       "/srv",
			Environment:     []string{"A=1", "EMPTY=", "URL=http://x/?a=b"},
			EnvironmentFile: "-/etc/worker.env",
			Handoff:         HandoffPreload,
			Cache:           CacheOff,
			Start:           StartAtOnce,
			IdleStop:        10 * time.Minute,
		},
		Ready: Ready{Probe: ProbeHTTP, Path: "https://example.org/up", Timeout: 90 * time.Second},
		Alive: Alive{
			Interval: time.Minute, Timeout: 5 * time.Second, Failures: 1, Watchdog: 20 * time.Second, Restart: true,
			StopTimeout: time.Second,
		},
		Stop:    Stop{Signal: syscall.SIGINT, To: StopAll, Timeout: 500 * time.Millisecond},
		Restart: Restart{Mode: ModeExclusive, Standby: true, Prewarm: PrewarmOn, PrewarmTimeout: 90 * time.Second, BackoffMin: 10 * time.Millisecond, BackoffMax: 10 * time.Millisecond, FatalExitCodes: []int{1, 255}, AfterExit0: AfterExit0Wait},
		Alarm:   Alarm{Command: []string{"/bin/ring", "the bell"}, After: 90 * time.Second},
		Log:     Log{Level: slog.LevelDebug, Format: FormatJSON},
	}
	if diff := cmp.Diff(want, got, equateAddresses, cmpopts.IgnoreFields(Config{}, "Content", "Written", "Source")); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	if got.Source["worker.handoff"] != path+":10" {
		t.Errorf("worker.handoff comes from %s", got.Source["worker.handoff"])
	}
}

func TestLoadDefaults(t *testing.T) {
	for name, content := range map[string]string{
		"the empty mapping": "{}\n",
		"an empty section":  "worker: {}\n",
		"no last newline":   "front_desk: true",
		"a document marker": "---\nfront_desk: true\n...\n",
		"windows lines":     "front_desk: true\r\nlog:\r\n  level: info\r\n",
		"a byte order mark": "\ufefffront_desk: true\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := load("config.yaml", []byte(content), noVariables)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Default(), got, equateAddresses, ignoreSource); diff != "" {
				t.Errorf("config (-default +got):\n%s", diff)
			}
		})
	}
	t.Run("no file", func(t *testing.T) {
		got, err := Load("")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(Default(), got, equateAddresses, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("config (-default +got):\n%s", diff)
		}
	})
}

func TestLoadMissing(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.yaml"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("error = %v", err)
	}
}

const noHost = "c.yaml:2: ready.host: is no host as in a Host header: write a name such as app.example.org, with :PORT behind it if need be, and neither http:// nor a path"

// mistakes are files that are refused, and the words.
var mistakes = map[string]struct {
	file []byte
	want []string
}{
	// The file.
	"empty":         {[]byte(""), []string{"c.yaml:1: the file is empty: write {} if all defaults are meant"}},
	"white":         {[]byte(" \n\n"), []string{"c.yaml:1: the file is empty: write {} if all defaults are meant"}},
	"comments only": {lines("# listen:", "# worker:"), []string{"c.yaml:1: the file holds no key: write {} if all defaults are meant"}},
	"null":          {lines("---"), []string{"c.yaml:1: the file holds no key: write {} if all defaults are meant"}},
	"a list":        {lines("- listen"), []string{"c.yaml:1: the file holds a list instead of keys such as listen:"}},
	"a word":        {lines("listen"), []string{"c.yaml:1: the file holds a plain value instead of keys such as listen:"}},
	"cut short":     {lines("front_desk: true", "worker:"), []string{"c.yaml:2: worker: has no keys below it: remove the line, or write {} if the defaults are meant"}},
	"syntax":        {lines("log:", "  level: info", " format: auto"), []string{"c.yaml:3: not valid YAML: did not find expected key"}},
	"a tab":         {lines("log:", "\tlevel: info"), []string{"c.yaml:2: not valid YAML: found character that cannot start any token: a tab where only spaces may indent, or one of @ ` % in front of a text, which belongs in quotes then"}},
	"a quote left open": {
		lines("worker:", `  directory: "/srv`, "  handoff: auto", "log:", "  level: info"),
		[]string{"c.yaml:2: not valid YAML: found unexpected end of stream"},
	},
	"a bracket left open": {
		lines("front_desk: true", "worker:", "  command: [node,", "    x.js", "log:", "  level: info"),
		[]string{"c.yaml:3: not valid YAML: did not find expected ',' or ']'"},
	},
	"cut in a word": {lines("front_desk: true", "wor"), []string{"c.yaml:2: not valid YAML: could not find expected ':'"}},
	"unknown anchor": {
		lines("log:", "  level: *nothing"),
		[]string{"c.yaml:2: not valid YAML: unknown anchor 'nothing' referenced"},
	},
	"two documents": {
		lines("front_desk: true", "---", "front_desk: false"),
		[]string{"c.yaml:2: a second YAML document begins here: keep one"},
	},

	// Keys.
	"misspelt": {lines("worker:", "  comand: [x]"), []string{"c.yaml:2: worker.comand: unknown key: did you mean worker.command?"}},
	"dashes":   {lines("front-desk: true"), []string{"c.yaml:1: front-desk: unknown key: did you mean front_desk?"}},
	"capitals": {lines("Listen: []"), []string{"c.yaml:1: Listen: unknown key: did you mean listen?"}},
	"misspelt section": {
		lines("workers:", "  command: [x]"),
		[]string{"c.yaml:1: workers: unknown key: did you mean worker?"},
	},
	"not indented": {
		lines("timeout: 5m"),
		[]string{"c.yaml:1: timeout: unknown key: did you mean ready.timeout or alive.timeout or stop.timeout? (check the indentation)"},
	},
	"indented":       {lines("worker:", "  front_desk: true"), []string{"c.yaml:2: worker.front_desk: unknown key: did you mean front_desk? (check the indentation)"}},
	"of another age": {lines("tls_certificate: x"), []string{"c.yaml:1: tls_certificate: unknown key: config.example.yaml shows all that there are"}},
	"unprintable":    {lines(`"a\nb\e[2J": 1`), []string{`c.yaml:1: "a\nb\x1b[2J": unknown key: config.example.yaml shows all that there are`}},
	"twice": {
		lines("log:", "  level: info", "  level: debug"),
		[]string{"c.yaml:3: log.level: is set twice: remove this one or the one on line 2"},
	},
	"a choice that YAML reads as no text": {
		lines("restart:", "  prewarm: true", "worker:", "  cache: 1", "  environment: {A: b}"),
		[]string{
			`c.yaml:2: restart.prewarm: "true" is not one of off, on`,
			`c.yaml:4: worker.cache: "1" is not one of auto, off`,
			`c.yaml:5: worker.environment: wants a list such as ["NAME=value"], not keys of its own`,
		},
	},
	"a home in a command": {
		lines("worker:", "  command: [~/bin/server]"),
		[]string{"c.yaml:2: worker.command: the first entry begins with ~, which only a shell expands: write the whole path"},
	},
	"in its section and as such": {
		lines("log.level: debug", "log:", "  level: warn", "worker:", "  idle_stop: 1m", "worker.idle_stop: 2m"),
		[]string{
			"c.yaml:3: log.level: is set twice: remove this one or the one on line 1",
			"c.yaml:6: worker.idle_stop: is set twice: remove this one or the one on line 5",
		},
	},
	"a section twice": {
		lines("log:", "  level: info", "log:", "  format: text"),
		[]string{"c.yaml:3: log: is set twice: remove this one or the one on line 1"},
	},
	"a merge": {
		lines("log: &log {level: info}", "ready:", "  <<: *log"),
		[]string{"c.yaml:3: ready: merge keys (<<) are not understood: write the keys out"},
	},
	"a list as a key":      {lines("[a]: b"), []string{"c.yaml:1: a list cannot be the name of a key"}},
	"a section is a value": {lines("worker: node"), []string{"c.yaml:1: worker: is a section: its keys go below it, indented, instead of a plain value"}},
	"a value is a section": {lines("listen:", "  address: x"), []string{"c.yaml:1: listen: wants a value, not keys of its own"}},
	"no value":             {lines("worker:", "  directory:"), []string{"c.yaml:2: worker.directory: has no value: give it one, or remove the line"}},
	"an anchor in itself":  {lines("worker: &w", "  command: *w"), []string{"c.yaml:2: worker.command: wants a value, not keys of its own"}},

	// Types.
	"a text for a list": {
		lines("worker:", "  command: node x.js"),
		[]string{`c.yaml:2: worker.command: want a list such as ["one", "two"], not a text`},
	},
	"a text for addresses": {
		lines(`listen: "127.0.0.1:80"`),
		[]string{`c.yaml:1: listen: want a list such as ["127.0.0.1:18789"], not a text`},
	},
	"a number for a list": {lines("restart:", "  fatal_exit_codes: 78"), []string{"c.yaml:2: restart.fatal_exit_codes: want a list such as [78], not a number"}},
	"a number in texts": {
		lines("worker:", "  command:", "    - node", "    - --port", "    - 80"),
		[]string{"c.yaml:5: worker.command: want a text, not a number: put it in quotes"},
	},
	"a mapping in texts": {
		lines("worker:", "  environment:", "    - A: 1"),
		[]string{`c.yaml:3: worker.environment: entry 1 is a mapping: write "NAME=value", in quotes`},
	},
	"nothing in texts":  {lines("worker:", "  command:", "    - node", "    -"), []string{"c.yaml:4: worker.command: entry 2 has no value"}},
	"a text in numbers": {lines("restart:", "  fatal_exit_codes: [x]"), []string{"c.yaml:2: restart.fatal_exit_codes: want a whole number, not a text"}},
	"half a number":     {lines("restart:", "  fatal_exit_codes: [1.5]"), []string{"c.yaml:2: restart.fatal_exit_codes: want a whole number, not a number with a fraction"}},
	"a number for text": {lines("worker:", "  directory: 5"), []string{"c.yaml:2: worker.directory: want a text, not a number: put it in quotes"}},
	"a list for a choice": {
		lines("worker:", "  handoff: [auto]"),
		[]string{"c.yaml:2: worker.handoff: want a text, not a list"},
	},
	"yes for true":   {lines("front_desk: yes"), []string{`c.yaml:1: front_desk: want true or false, not "yes"`}},
	"quoted true":    {lines(`front_desk: "true"`), []string{`c.yaml:1: front_desk: want true or false, not "true"`}},
	"a broken tag":   {lines("front_desk: !!int x"), []string{"c.yaml:1: front_desk: cannot decode !!str `x` as a !!int"}},
	"a bare number":  {lines("ready:", "  timeout: 5"), []string{"c.yaml:2: ready.timeout: 5 has no unit: 5s? (units are ms, s, m and h)"}},
	"a bare zero":    {lines("worker:", "  idle_stop: 0"), []string{"c.yaml:2: worker.idle_stop: 0 has no unit: 0s? (units are ms, s, m and h)"}},
	"a bare float":   {lines("ready:", "  timeout: 1.5"), []string{"c.yaml:2: ready.timeout: 1.5 has no unit: 1.5s? (units are ms, s, m and h)"}},
	"quoted number":  {lines("ready:", `  timeout: "5"`), []string{"c.yaml:2: ready.timeout: 5 has no unit: 5s? (units are ms, s, m and h)"}},
	"systemd's unit": {lines("ready:", "  timeout: 5min"), []string{`c.yaml:2: ready.timeout: "5min" is not a duration such as 10s or 1h30m (units are ms, s, m and h)`}},
	"negative":       {lines("stop:", "  timeout: -5s"), []string{"c.yaml:2: stop.timeout: -5s is negative"}},
	"a true time":    {lines("stop:", "  timeout: true"), []string{"c.yaml:2: stop.timeout: want a duration such as 10s, not true or false (units are ms, s, m and h)"}},

	// Values.
	"no address": {lines("listen: []"), []string{`c.yaml:1: listen: is empty: name at least one address, such as ["127.0.0.1:18789"]`}},
	"host name":  {lines(`listen: ["localhost:80"]`), []string{`c.yaml:1: listen: "localhost:80" is not an IP address with a port from 1 to 65535: use 127.0.0.1:80 or [::1]:80`}},
	"only a port": {
		lines(`listen: [":80"]`),
		[]string{`c.yaml:1: listen: ":80" is not an IP address with a port from 1 to 65535: use 127.0.0.1:80 or [::1]:80`},
	},
	"no port":       {lines(`listen: ["127.0.0.1"]`), []string{`c.yaml:1: listen: "127.0.0.1" is not an IP address with a port from 1 to 65535: use 127.0.0.1:18789 or [::1]:18789`}},
	"no brackets":   {lines(`listen: ["::1:80"]`), []string{`c.yaml:1: listen: "::1:80" is not an IP address with a port from 1 to 65535: use 127.0.0.1:80 or [::1]:80`}},
	"no zone":       {lines(`listen: ["[fe80::1]:80"]`), []string{`c.yaml:1: listen: "[fe80::1]:80" is an address of a single link, and does not say which: write [::]:80 for all addresses, or [fe80::1%INTERFACE]:80 for a launcher that is run by hand`}},
	"a zone of ::1": {lines(`listen: ["[::1%lo]:80"]`), []string{`c.yaml:1: listen: "[::1%lo]:80" has a zone, which only an address of a single link has: write [::1]:80`}},
	"multicast":     {lines(`listen: ["224.0.0.1:80"]`), []string{`c.yaml:1: listen: "224.0.0.1:80" is a multicast address, to which nobody can connect: name one that this machine has`}},
	"multicast 6":   {lines(`listen: ["[ff02::1%lo]:80"]`), []string{`c.yaml:1: listen: "[ff02::1%lo]:80" is a multicast address, to which nobody can connect: name one that this machine has`}},
	"broadcast":     {lines(`listen: ["255.255.255.255:80"]`), []string{`c.yaml:1: listen: "255.255.255.255:80" is the broadcast address, to which nobody can connect: name one that this machine has, or 0.0.0.0:80 for all`}},
	"port 0":        {lines(`listen: ["127.0.0.1:0"]`), []string{`c.yaml:1: listen: "127.0.0.1:0" has port 0: choose one from 1 to 65535`}},
	"port 65536":    {lines(`listen: ["127.0.0.1:65536"]`), []string{`c.yaml:1: listen: "127.0.0.1:65536" is not an IP address with a port from 1 to 65535: use 127.0.0.1:18789 or [::1]:18789`}},
	"mapped":        {lines(`listen: ["[::ffff:10.0.0.1]:80"]`), []string{`c.yaml:1: listen: "[::ffff:10.0.0.1]:80" is an IPv4 address in the form of IPv6: write 10.0.0.1:80`}},
	"address twice": {lines("listen:", "  - 127.0.0.1:80", "  - 127.0.0.1:80"), []string{"c.yaml:3: listen: 127.0.0.1:80 is there twice"}},
	"wildcard": {
		lines("listen:", "  - 127.0.0.1:80", "  - 0.0.0.0:80"),
		[]string{"c.yaml:3: listen: 0.0.0.0:80 and 127.0.0.1:80 cannot be bound together: the one for all addresses holds the other"},
	},
	"no program":         {lines("worker:", `  command: [" ", x]`), []string{"c.yaml:2: worker.command: the first entry is empty: it is the program"}},
	"NUL":                {lines("worker:", `  command: [node, "a\0b"]`), []string{"c.yaml:2: worker.command: entry 2 holds a NUL byte"}},
	"relative directory": {lines("worker:", "  directory: srv"), []string{`c.yaml:2: worker.directory: "srv" does not begin with /: write the whole path`}},
	"relative file":      {lines("worker:", "  environment_file: -x.env"), []string{`c.yaml:2: worker.environment_file: "-x.env" does not begin with / (after a - that lets it be missing): write the whole path`}},
	"environment": {
		lines("worker:", "  environment:", "    - secret", "    - 1A=secret", "    - A-B=secret", "    - =secret", "    - A=1", "    - A=2", `    - "B=\0"`),
		[]string{
			"c.yaml:3: worker.environment: entry 1 has no =: write NAME=value",
			"c.yaml:4: worker.environment: entry 2 has a name that is none: letters, digits and _, no digit first",
			"c.yaml:5: worker.environment: entry 3 has a name that is none: letters, digits and _, no digit first",
			"c.yaml:6: worker.environment: entry 4 has a name that is none: letters, digits and _, no digit first",
			"c.yaml:8: worker.environment: A is set twice",
			"c.yaml:9: worker.environment: the value of B holds a NUL byte",
		},
	},
	"reserved": {
		lines("worker:", "  environment:", "    - LISTEN_FDS=1", "    - LISTEN_PID=1", "    - LISTEN_FDNAMES=a", "    - LISTEN_PIDFDID=1",
			"    - NOTIFY_SOCKET=/x", "    - WATCHDOG_USEC=1", "    - GATEWAY_GENERATION=1", "    - LISTEN_FDS_NOT=1"),
		[]string{
			"c.yaml:3: worker.environment: LISTEN_FDS is set by the launcher: remove it",
			"c.yaml:4: worker.environment: LISTEN_PID is set by the launcher: remove it",
			"c.yaml:5: worker.environment: LISTEN_FDNAMES is set by the launcher: remove it",
			"c.yaml:6: worker.environment: LISTEN_PIDFDID is set by the launcher: remove it",
			"c.yaml:7: worker.environment: NOTIFY_SOCKET is set by the launcher: remove it",
			"c.yaml:8: worker.environment: WATCHDOG_USEC is set by the launcher: remove it",
			"c.yaml:9: worker.environment: GATEWAY_GENERATION is set by the launcher: remove it",
		},
	},
	"dual-stack beside": {
		lines("listen:", "  - 127.0.0.1:80", `  - "*:80"`),
		[]string{"c.yaml:3: listen: *:80 and 127.0.0.1:80 cannot be bound together: the one for all addresses holds the other"},
	},
	"dual-stack before": {
		lines("listen:", `  - "*:80"`, `  - "[::]:80"`),
		[]string{"c.yaml:3: listen: [::]:80 and *:80 cannot be bound together: the one for all addresses holds the other"},
	},
	"dual-stack twice": {lines("listen:", `  - "*:80"`, `  - "*:80"`), []string{"c.yaml:3: listen: *:80 is there twice"}},
	"dual-stack and not": {
		lines("listen:", `  - "[::]:81"`, `  - "*:80"`, `  - "0.0.0.0:82"`),
		[]string{"c.yaml:2: listen: [::]:81 takes IPv6 alone, and *:80 both: one socket unit cannot have the two. Write \"*:81\" here"},
	},
	"dual-stack port": {lines(`listen: ["*:0"]`), []string{`c.yaml:1: listen: "*:0" has port 0: choose one from 1 to 65535`}},
	"dual-stack alone": {
		lines(`listen: ["*"]`),
		[]string{`c.yaml:1: listen: "*" is not an IP address with a port from 1 to 65535: use 127.0.0.1:18789 or [::1]:18789`},
	},
	"unix": {
		lines("listen:", "  - /run/app.sock", "  - unix:app.sock", "  - unix:~/app.sock", "  - unix:@app", "  - unix:/run/", "  - unix:/run/../app.sock", `  - "unix:/a\nb"`,
			"  - unix:/"+strings.Repeat("x", 107), `  - "unix:"`),
		[]string{
			`c.yaml:2: listen: "/run/app.sock": a unix socket is written as "unix:/run/app.sock"`,
			`c.yaml:3: listen: "unix:app.sock": the path of a unix socket begins with /: write the whole path`,
			`c.yaml:4: listen: "unix:~/app.sock": ~ is known to shells alone: write the whole path`,
			`c.yaml:5: listen: "unix:@app": an abstract socket has no file, so everybody could connect to it: write a path, such as unix:/run/app.sock`,
			`c.yaml:6: listen: "unix:/run/": is a directory: name the socket in it`,
			`c.yaml:7: listen: "unix:/run/../app.sock": systemd takes no .. in a path: write it without, as unix:/app.sock`,
			`c.yaml:8: listen: "unix:/a\nb": the path has characters in it, or spaces at its end, that a unit file cannot hold`,
			`c.yaml:9: listen: "unix:/` + strings.Repeat("x", 94) + `…": the path has 108 bytes, and the kernel takes 107 for a socket: name a shorter one`,
			`c.yaml:10: listen: "unix:": the path of a unix socket begins with /: write the whole path`,
		},
	},
	"unix twice": {
		lines("listen: [unix:/run/app.sock, unix:/run//./app.sock, unix:///run/app.sock]"),
		[]string{"c.yaml:1: listen: unix:/run/app.sock is there twice", "c.yaml:1: listen: unix:/run/app.sock is there twice", "c.yaml:1: listen: unix:/run/app.sock is there twice"},
	},
	"access": {
		lines("listen:", "  - {address: unix:/run/a, mode: 0660}", `  - {address: unix:/run/b, mode: "0888"}`, "  - {address: unix:/run/c, group: 'a b'}",
			"  - {address: unix:/run/d, owner: x}", `  - {address: "127.0.0.1:80", mode: "0660"}`, "  - {address: unix:/run/e, user: ':'}"),
		[]string{
			`c.yaml:2: listen: mode wants a text: put it in quotes`,
			`c.yaml:3: listen: mode "0888" is none of a socket: write it as "0660"`,
			`c.yaml:4: listen: group "a b" is no name of a group`,
			`c.yaml:5: listen: "owner" is unknown here: an entry is an address, or {address: "127.0.0.1:18789", name: web} or {address: "unix:/run/app.sock", mode: "0660", group: www-data}`,
			`c.yaml:6: listen: 127.0.0.1:80 has no mode, user or group: those are a unix socket's`,
			`c.yaml:7: listen: user ":" is no name of a user`,
		},
	},
	"unix and idle_stop": {
		lines("listen: [unix:/run/app.sock]", "worker:", "  idle_stop: 1h"),
		[]string{"c.yaml:3: worker.idle_stop: cannot be with unix:/run/app.sock in listen: the kernel does not tell when a connection of a unix socket ends. Leave out one of the two"},
	},
	"UDP": {
		lines(`listen: ["udp:127.0.0.1:53"]`),
		[]string{`c.yaml:1: listen: "udp:127.0.0.1:53" is of UDP, which has no connections that could wait for a worker: name an address of TCP, or a unix socket`},
	},
	"too often":      {lines("alive:", "  queue: 1ms", "  interval: 1ns"), []string{"c.yaml:2: alive.queue: must be at least 100ms", "c.yaml:3: alive.interval: must be at least 100ms"}},
	"TCP, as a URL":  {lines(`listen: ["tcp://127.0.0.1:53"]`), []string{`c.yaml:1: listen: "tcp://127.0.0.1:53": leave out tcp://, and write 127.0.0.1:53`}},
	"HTTP, as a URL": {lines(`listen: ["http://127.0.0.1:53/"]`), []string{`c.yaml:1: listen: "http://127.0.0.1:53/": leave out http://, and write 127.0.0.1:53`}},
	"UDP, as a URL":  {lines(`listen: ["udp://127.0.0.1:53"]`), []string{`c.yaml:1: listen: "udp://127.0.0.1:53" is of UDP, which has no connections that could wait for a worker: name an address of TCP, or a unix socket`}},
	"TCP":            {lines(`listen: ["tcp:127.0.0.1:53"]`), []string{`c.yaml:1: listen: "tcp:127.0.0.1:53": leave out tcp:, and write 127.0.0.1:53`}},
	"listen with another key": {
		lines("listen:", "  - {address: 127.0.0.1:80, backlog: x}"),
		[]string{`c.yaml:2: listen: "backlog" is unknown here: an entry is an address, or {address: "127.0.0.1:18789", name: web} or {address: "unix:/run/app.sock", mode: "0660", group: www-data}`},
	},
	"listen without address": {
		lines("listen:", "  - 127.0.0.1:81", "  - {name: web}"),
		[]string{`c.yaml:3: listen: has no address: write {address: "127.0.0.1:18789", name: web} or {address: "unix:/run/app.sock", mode: "0660", group: www-data}`},
	},
	"name of a socket": {
		lines("listen:", `  - {address: "127.0.0.1:80", name: "a:b"}`),
		[]string{`c.yaml:2: listen: "a:b" cannot be the name of a socket: at most 255 letters, digits and signs of ASCII, no colon`},
	},
	"number as a name": {lines("listen:", `  - {address: "127.0.0.1:80", name: 80}`), []string{"c.yaml:2: listen: name wants a text: put it in quotes"}},
	"list in listen": {
		lines("listen:", "  - {address: [x]}"),
		[]string{"c.yaml:2: listen: entry 1 is a mapping: put it in quotes if it is a text"},
	},
	"handoff": {lines("worker:", "  handoff: foo"), []string{`c.yaml:2: worker.handoff: "foo" is not one of auto, listen-fds, preload, intercept`}},
	"intercept hello": {
		lines("worker:", "  handoff: intercept"),
		[]string{"c.yaml:2: worker.handoff: intercept is for programs that bind their address themselves, and without worker.command the built-in hello server runs: set worker.command, or write auto"},
	},
	"intercept unix": {
		lines("listen: [unix:/run/app.sock]", "worker:", "  command: [x]", "  handoff: intercept"),
		[]string{"c.yaml:4: worker.handoff: intercept cannot hand over unix:/run/app.sock of listen: it knows addresses of TCP alone. Leave out one of the two"},
	},
	"preload hello":   {lines("worker:", "  handoff: preload"), []string{"c.yaml:2: worker.handoff: preload is for Node.js, and without worker.command the built-in hello server runs: set worker.command, or write auto"}},
	"cache":           {lines("worker:", "  cache: on"), []string{`c.yaml:2: worker.cache: "on" is not one of auto, off`}},
	"start":           {lines("worker:", "  start: now"), []string{`c.yaml:2: worker.start: "now" is not one of on-demand, at-once`}},
	"idle_stop":       {lines("worker:", "  idle_stop: 10"), []string{"c.yaml:2: worker.idle_stop: 10 has no unit: 10s? (units are ms, s, m and h)"}},
	"idle_stop never": {lines("worker:", "  idle_stop: -1s"), []string{"c.yaml:2: worker.idle_stop: -1s is negative"}},
	"probe":           {lines("ready:", "  probe: tcp"), []string{`c.yaml:2: ready.probe: "tcp" is not one of auto, http, notify, adopted`}},
	"probe http":      {lines("ready:", "  timeout: 1m", "  probe: http"), []string{"c.yaml:3: ready.probe: http needs ready.path, such as /startupz"}},
	"path":            {lines("ready:", "  path: startupz"), []string{`c.yaml:2: ready.path: neither begins with / nor is an http:// or https:// URL`}},
	"path of a host":  {lines("ready:", "  path: //host/x"), []string{`c.yaml:2: ready.path: neither begins with / nor is an http:// or https:// URL`}},
	"path by ftp":     {lines("ready:", "  path: ftp://host/x"), []string{`c.yaml:2: ready.path: neither begins with / nor is an http:// or https:// URL`}},
	"path to nowhere": {lines("ready:", "  path: http:///x"), []string{`c.yaml:2: ready.path: neither begins with / nor is an http:// or https:// URL`}},
	"path's secret":   {lines("ready:", "  path: wss://u:hush@host/x"), []string{`c.yaml:2: ready.path: neither begins with / nor is an http:// or https:// URL`}},
	"path no URL":     {lines("ready:", "  path: /%zz"), []string{`c.yaml:2: ready.path: is neither a path nor a URL`}},
	"host as a URL":   {lines("ready:", "  host: https://u:hush@app.example.org/"), []string{noHost}},
	"host's path":     {lines("ready:", "  host: app.example.org/x"), []string{noHost}},
	"host's port":     {lines("ready:", "  host: app.example.org:65536"), []string{noHost}},
	"host as IPv6":    {lines("ready:", "  host: '::1'"), []string{noHost}},
	"no time":         {lines("ready:", "  timeout: 0s", "stop:", "  timeout: 0s", "restart:", "  backoff_min: 0s"), []string{"c.yaml:2: ready.timeout: must be more than 0", "c.yaml:4: stop.timeout: must be more than 0", "c.yaml:6: restart.backoff_min: must be more than 0"}},
	"signal":          {lines("stop:", "  signal: SIGFOO"), []string{`c.yaml:2: stop.signal: "SIGFOO" is not the name of a signal such as SIGTERM or SIGINT`}},
	"a signal number": {lines("stop:", "  signal: 15"), []string{"c.yaml:2: stop.signal: want the name of a signal such as SIGTERM, not a number"}},
	"SIGSTOP":         {lines("stop:", "  signal: stop"), []string{"c.yaml:2: stop.signal: SIGSTOP only suspends the worker: use SIGTERM, or what your worker stops at"}},
	"mode":            {lines("restart:", "  mode: overlap"), []string{`c.yaml:2: restart.mode: "overlap" is not one of exclusive, handover`}},
	"handover without a gate": {lines("worker:", "  handoff: listen-fds", "restart:", "  mode: handover"), []string{
		"c.yaml:4: restart.mode: handover holds the next worker where it begins to listen, and with worker.handoff: listen-fds nothing can hold it: " +
			"write intercept, or preload for Node.js, or restart.mode: exclusive",
	}},
	"standby alone": {lines("restart:", "  standby: true"), []string{
		"c.yaml:2: restart.standby: a standby starts beside the worker that serves, which restart.mode: exclusive rules out: " +
			"write restart.mode: handover, or restart.prewarm: on, or restart.standby: false",
	}},
	"prewarm":     {lines("restart:", "  mode: handover", "  prewarm: on"), []string{"c.yaml:3: restart.prewarm: with restart.mode: handover the next worker starts beside the old one anyway, to where it listens: write off, or restart.mode: exclusive"}},
	"backoff":     {lines("restart:", "  backoff_max: 2s", "  backoff_min: 3s"), []string{"c.yaml:3: restart.backoff_min: backoff_min (3s) is longer than backoff_max (2s)"}},
	"backoff_max": {lines("restart:", "  backoff_max: 500ms"), []string{"c.yaml:2: restart.backoff_max: backoff_min (1s) is longer than backoff_max (500ms)"}},
	"exit codes":  {lines("restart:", "  fatal_exit_codes:", "    - 0", "    - 256", "    - -1"), []string{"c.yaml:3: restart.fatal_exit_codes: 0 is success, and OpenClaw's way to ask for a restart: it cannot be fatal", "c.yaml:4: restart.fatal_exit_codes: 256 is not an exit code: they go from 1 to 255", "c.yaml:5: restart.fatal_exit_codes: -1 is not an exit code: they go from 1 to 255"}},
	"level":       {lines("log:", "  level: INFO"), []string{`c.yaml:2: log.level: "INFO" is not one of debug, info, warn, error`}},
	"format":      {lines("log:", "  format: xml"), []string{`c.yaml:2: log.format: "xml" is not one of auto, journal, text, json`}},

	// Sizes.
	"65 addresses": {
		lines("listen:", strings.Repeat("  - 127.0.0.1:80\n", 65)),
		[]string{"c.yaml:66: listen: has 65 entries: at most 64 are possible"},
	},
	"256 exit codes": {
		lines("restart: {fatal_exit_codes: [1" + strings.Repeat(", 1", 255) + "]}"),
		[]string{"c.yaml:1: restart.fatal_exit_codes: has 256 entries: at most 255 are possible"},
	},
	"10001 arguments": {
		lines("worker: {command: [x" + strings.Repeat(", x", 10_000) + "]}"),
		[]string{"c.yaml:1: worker.command: has 10001 entries: at most 10000 are possible"},
	},

	"all at once": {
		lines("lisen: []", "worker:", "  handoff: foo", "  start: 5", "ready:", "  timeout: 5", "front_desk: maybe", "log:", "  level: loud", "  level: info"),
		[]string{
			"c.yaml:1: lisen: unknown key: did you mean listen?",
			`c.yaml:3: worker.handoff: "foo" is not one of auto, listen-fds, preload, intercept`,
			`c.yaml:4: worker.start: "5" is not one of on-demand, at-once`,
			"c.yaml:6: ready.timeout: 5 has no unit: 5s? (units are ms, s, m and h)",
			`c.yaml:7: front_desk: want true or false, not "maybe"`,
			`c.yaml:9: log.level: "loud" is not one of debug, info, warn, error`,
			"c.yaml:10: log.level: is set twice: remove this one or the one on line 9",
		},
	},
}

// oversized are files that would cost whoever reads them time or memory.
var oversized = map[string]struct {
	file []byte
	want []string
}{
	"a long text": {
		lines("worker:", "  directory: /"+strings.Repeat("x", 128<<10)),
		[]string{"c.yaml:2: worker.directory: is longer than 128 KiB: no program can be told so much at once"},
	},
	"a long argument": {
		lines("worker:", "  command:", "    - x", "    - "+strings.Repeat("x", 128<<10)),
		[]string{"c.yaml:4: worker.command: entry 2 is longer than 128 KiB, the longest argument or variable that the kernel takes"},
	},
	"a long argument, again and again": {
		lines("worker:", "  directory: &x /"+strings.Repeat("x", 100_000), "  command: [x", strings.Repeat("    , *x\n", 63)+"  ]"),
		[]string{"c.yaml:66: worker.command: is longer than 6 MiB together, which is all that the kernel takes"},
	},
	"a long mistake": {
		lines("log: {level: " + strings.Repeat("xé", 2000) + "}"),
		[]string{`c.yaml:1: log.level: "` + strings.Repeat("xé", 666) + "x…"},
	},
	"a long key": {
		lines("worker:", "  ? "+strings.Repeat("x", 1<<20), "  : 1", "  ? "+strings.Repeat("x", 1<<20), "  : 1"),
		[]string{
			"c.yaml:2: worker." + strings.Repeat("x", 100) + "…: unknown key: config.example.yaml shows all that there are",
			"c.yaml:4: worker." + strings.Repeat("x", 100) + "…: is set twice: remove this one or the one on line 2",
		},
	},
	"a hundred keys": {lines(strings.Repeat("x: 1\n", 20_000)), append(func() (want []string) {
		want = append(want, "c.yaml:1: x: unknown key: config.example.yaml shows all that there are")
		for i := range 99 {
			want = append(want, fmt.Sprintf("c.yaml:%d: x: is set twice: remove this one or the one on line 1", i+2))
		}
		return want
	}(), "c.yaml: there are more mistakes: correct these first")},
	"many lines": {
		lines("{}", strings.Repeat("#\n", 50_000)),
		[]string{"c.yaml:50001: the file has more than 50000 lines, keys and entries until here: it is another file than was meant, or has to become shorter"},
	},
	"many entries": {
		lines("# they are", "listen: [", strings.Repeat("a,", 4<<20)),
		[]string{"c.yaml:3: the file has more than 50000 lines, keys and entries until here: it is another file than was meant, or has to become shorter"},
	},
	"many entries in UTF-16": {
		[]byte("\xff\xfel\x00:\x00\n\x00" + strings.Repeat("-\x00 \x00", 60_000)),
		[]string{"c.yaml:2: the file has more than 50000 lines, keys and entries until here: it is another file than was meant, or has to become shorter"},
	},
	"10 MB of brackets":       {[]byte(strings.Repeat("[", 10_000_000)), []string{"c.yaml:1: the file has more than 50000 lines, keys and entries until here: it is another file than was meant, or has to become shorter"}},
	"one open bracket":        {[]byte("a: [" + strings.Repeat("x", 8_000_000)), []string{"c.yaml:1: not valid YAML: did not find expected ',' or ']'"}},
	"one open and long lines": {[]byte("a: [\n" + strings.Repeat("# "+strings.Repeat("x", 8000)+"\n", 990)), []string{"c.yaml:991: not valid YAML: did not find expected node content"}},
	"a quote and long lines":  {[]byte("\n\na: \"\n" + strings.Repeat(strings.Repeat("x", 8000)+"\n", 990)), []string{"c.yaml:3: not valid YAML: found unexpected end of stream"}},
	"nested as deep as it goes": {
		[]byte("listen: " + strings.Repeat("[", 20_000)),
		[]string{"c.yaml:1: not valid YAML: exceeded max depth of 10000"},
	},
	"nested lists": {
		[]byte("listen: " + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000)),
		[]string{"c.yaml:1: listen: entry 1 is a list: put it in quotes if it is a text"},
	},
	"aliases of aliases": {
		lines(`x: &a [x, x, x, x, x, x, x, x, x]`, "worker:", "  command: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]", "  environment: [*b, *b, *b, *b, *b, *b, *b]"),
		[]string{
			"c.yaml:1: x: unknown key: config.example.yaml shows all that there are",
			"c.yaml:3: worker.command: entry 1 is a list: put it in quotes if it is a text",
			"c.yaml:4: worker.environment: entry 1 is a list: put it in quotes if it is a text",
		},
	},
}

// TestMistakes holds every message to its words, because a user has nothing else to go by.
func TestMistakes(t *testing.T) {
	all := maps.Clone(mistakes)
	maps.Copy(all, oversized)
	for name, test := range all {
		t.Run(name, func(t *testing.T) {
			c, err := load("c.yaml", test.file, noVariables)
			var problems Errors
			if !errors.As(err, &problems) || c != nil {
				t.Fatalf("load returned %v and the error %v, want Errors and no config", c, err)
			}
			if diff := cmp.Diff(test.want, strings.Split(err.Error(), "\n")); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(Example, "debug", `["node", "x.js"]`)
	f.Add([]byte("worker: &w {command: *w}"), "info", "[::1]:80")
	f.Add([]byte("a: &a [*a]\n---\n"), "", "{")
	f.Add([]byte("listen: [[1], {2: 3}, !!binary x, 2020-01-01]\n? [x]\n: y"), "&a", "*a")
	f.Fuzz(func(t *testing.T, content []byte, level, list string) {
		c, err := load("c.yaml", content, variables(map[string]string{
			"GATEWAY_LOG_LEVEL": level, "GATEWAY_WORKER_COMMAND": list, "GATEWAY_LISTEN": list,
			"GATEWAY_FRONT_DESK": level, "GATEWAY_RESTART_FATAL_EXIT_CODES": list,
		}))
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v and error %v", c, err)
		}
		if err != nil && strings.TrimSpace(err.Error()) == "" {
			t.Fatal("an error without words")
		}
		if c != nil && (len(c.Listen) == 0 || c.Ready.Timeout <= 0 || c.Restart.BackoffMin > c.Restart.BackoffMax) {
			t.Fatalf("passed: %+v", c)
		}
	})
}
