package config

import (
	"cmp"
	"log/slog"
	"reflect"
	"strings"
	"syscall"
	"time"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Config is the whole configuration, complete with defaults and valid if it comes from [Load]. What each key means to
// a user stands in config.example.yaml ([Example]).
type Config struct {
	Path      string     `mapstructure:"-"` // the file it was read from; empty without one
	Listeners []Listener `mapstructure:"listen"`
	Worker    Worker     `mapstructure:"worker"`
	Ready     Ready      `mapstructure:"ready"`
	Alive     Alive      `mapstructure:"alive"`
	Stop      Stop       `mapstructure:"stop"`
	Restart   Restart    `mapstructure:"restart"`
	FrontDesk bool       `mapstructure:"front_desk"`
	Alarm     Alarm      `mapstructure:"alarm"`
	Log       Log        `mapstructure:"log"`

	// Of Listeners: their addresses, whether one of them is dual-stack, so that each IPv6 wildcard is, and the names.
	Listen    []netaddr.Address                  `mapstructure:"-"`
	DualStack bool                               `mapstructure:"-"`
	Names     map[netaddr.Address]string         `mapstructure:"-"`
	Access    map[netaddr.Address]netaddr.Access `mapstructure:"-"` // of the unix sockets
	// Content is the file as it was read; nil without one.
	Content []byte `mapstructure:"-"`
	// Written is when the file was written last before it was read; zero without one.
	Written time.Time `mapstructure:"-"`
	// Source says for each key where its value comes from: "FILE:LINE" or the name of a variable. A key that is
	// missing here has its default.
	Source map[string]string `mapstructure:"-"`
}

// Worker says which program is started, and how.
type Worker struct {
	Command         []string      `mapstructure:"command"` // empty: the built-in hello server
	Directory       string        `mapstructure:"directory"`
	Environment     []string      `mapstructure:"environment"`
	EnvironmentFile string        `mapstructure:"environment_file"` // may begin with "-"; see [ReadEnvironmentFile]
	Handoff         string        `mapstructure:"handoff"`          // HandoffAuto and so on
	Cache           string        `mapstructure:"cache"`            // CacheAuto or CacheOff
	Start           string        `mapstructure:"start"`            // StartOnDemand or StartAtOnce
	IdleStop        time.Duration `mapstructure:"idle_stop"`        // 0: never
}

// Ready says when a generation counts as ready.
type Ready struct {
	Probe   string        `mapstructure:"probe"` // ProbeAuto and so on
	Path    string        `mapstructure:"path"`  // begins with "/", or is an http or https URL
	Host    string        `mapstructure:"host"`  // the Host header and TLS server name of the requests for Path and Alive.Path; empty: as they lead
	Timeout time.Duration `mapstructure:"timeout"`
}

// Alive says when a generation that is ready counts as hung, and what follows.
type Alive struct {
	Queue       time.Duration `mapstructure:"queue"` // 0: not looked at
	Path        string        `mapstructure:"path"`  // as Ready.Path; empty: no request is made
	Interval    time.Duration `mapstructure:"interval"`
	Timeout     time.Duration `mapstructure:"timeout"`
	Failures    int           `mapstructure:"failures"`
	Watchdog    time.Duration `mapstructure:"watchdog"` // 0: not promised
	Restart     bool          `mapstructure:"restart"`
	StopTimeout time.Duration `mapstructure:"stop_timeout"`
}

// Stop says how a generation is ended.
type Stop struct {
	Signal  syscall.Signal `mapstructure:"signal"`
	To      string         `mapstructure:"to"` // StopMain or StopAll
	Timeout time.Duration  `mapstructure:"timeout"`
}

// Restart says what happens between one generation and the next.
type Restart struct {
	Mode           string        `mapstructure:"mode"` // ModeExclusive or ModeHandover
	Standby        bool          `mapstructure:"standby"`
	Prewarm        string        `mapstructure:"prewarm"` // PrewarmOff or PrewarmOn
	PrewarmTimeout time.Duration `mapstructure:"prewarm_timeout"`
	BackoffMin     time.Duration `mapstructure:"backoff_min"`
	BackoffMax     time.Duration `mapstructure:"backoff_max"`
	ResetAfter     time.Duration `mapstructure:"reset_after"`
	FatalExitCodes []int         `mapstructure:"fatal_exit_codes"`
	AfterExit0     string        `mapstructure:"after_exit_0"` // AfterExit0Start or AfterExit0Wait
}

// Alarm says who is told when clients are not served.
type Alarm struct {
	Command []string      `mapstructure:"command"` // empty: nobody
	After   time.Duration `mapstructure:"after"`
}

// Log says what is logged, and in which form.
type Log struct {
	Level  slog.Level `mapstructure:"level"`
	Format string     `mapstructure:"format"` // FormatAuto, FormatJournal, FormatText or FormatJSON
}

// The words that are values.
const (
	// How the worker comes by the sockets.
	HandoffAuto      = "auto"
	HandoffListenFDs = "listen-fds"
	HandoffPreload   = "preload"
	HandoffIntercept = "intercept"

	// Whether a Node.js keeps what it has compiled.
	CacheAuto = "auto"
	CacheOff  = "off"

	// When the first generation starts.
	StartOnDemand = "on-demand"
	StartAtOnce   = "at-once"

	// How readiness is found out.
	ProbeAuto    = "auto"
	ProbeHTTP    = "http"
	ProbeNotify  = "notify"
	ProbeAdopted = "adopted"

	// Who gets the stop signal first.
	StopMain = "main"
	StopAll  = "all"

	// When the next generation starts: when the old one has gone, or beside it.
	ModeExclusive = "exclusive"
	ModeHandover  = "handover"

	// Whether the next generation of a Node.js loads its modules beside the old one.
	PrewarmOff = "off"
	PrewarmOn  = "on"

	// What follows a generation that has served and has ended by itself with exit code 0.
	AfterExit0Start = "start"
	AfterExit0Wait  = "wait"

	// The forms of the log.
	FormatAuto    = "auto"
	FormatJournal = "journal"
	FormatText    = "text"
	FormatJSON    = "json"
)

// Default returns the built-in defaults. config.example.yaml shows the same values; a test holds the two equal.
func Default() *Config {
	c := &Config{
		Listeners: []Listener{
			{Address: netaddr.MustParse("127.0.0.1:18789")},
			{Address: netaddr.MustParse("[::1]:18789")},
		},
		Worker: Worker{
			Command:     []string{},
			Environment: []string{},
			Handoff:     HandoffAuto,
			Cache:       CacheAuto,
			Start:       StartOnDemand,
		},
		Ready: Ready{Probe: ProbeAuto, Timeout: 5 * time.Minute},
		Alive: Alive{
			Queue: 30 * time.Second, Interval: 30 * time.Second, Timeout: 10 * time.Second, Failures: 3, StopTimeout: 10 * time.Second,
		},
		Stop: Stop{Signal: unix.SIGTERM, To: StopMain, Timeout: 327 * time.Second},
		Restart: Restart{
			Mode:           ModeExclusive,
			Prewarm:        PrewarmOff,
			PrewarmTimeout: time.Minute,
			BackoffMin:     time.Second,
			BackoffMax:     2 * time.Minute,
			ResetAfter:     5 * time.Minute,
			FatalExitCodes: []int{78},
			AfterExit0:     AfterExit0Start,
		},
		FrontDesk: true,
		Alarm:     Alarm{Command: []string{}, After: time.Minute},
		Log:       Log{Level: slog.LevelInfo, Format: FormatAuto},
	}
	c.listened()
	return c
}

// field is one key and a pointer to the field it fills.
type field struct {
	key     string
	pointer any
}

// fields lists every key, in the order of config.example.yaml.
func (c *Config) fields() []field {
	return []field{
		{"listen", &c.Listeners},
		{"worker.command", &c.Worker.Command},
		{"worker.directory", &c.Worker.Directory},
		{"worker.environment", &c.Worker.Environment},
		{"worker.environment_file", &c.Worker.EnvironmentFile},
		{"worker.handoff", &c.Worker.Handoff},
		{"worker.cache", &c.Worker.Cache},
		{"worker.start", &c.Worker.Start},
		{"worker.idle_stop", &c.Worker.IdleStop},
		{"ready.probe", &c.Ready.Probe},
		{"ready.path", &c.Ready.Path},
		{"ready.host", &c.Ready.Host},
		{"ready.timeout", &c.Ready.Timeout},
		{"alive.queue", &c.Alive.Queue},
		{"alive.path", &c.Alive.Path},
		{"alive.interval", &c.Alive.Interval},
		{"alive.timeout", &c.Alive.Timeout},
		{"alive.failures", &c.Alive.Failures},
		{"alive.watchdog", &c.Alive.Watchdog},
		{"alive.restart", &c.Alive.Restart},
		{"alive.stop_timeout", &c.Alive.StopTimeout},
		{"stop.signal", &c.Stop.Signal},
		{"stop.to", &c.Stop.To},
		{"stop.timeout", &c.Stop.Timeout},
		{"restart.mode", &c.Restart.Mode},
		{"restart.standby", &c.Restart.Standby},
		{"restart.prewarm", &c.Restart.Prewarm},
		{"restart.prewarm_timeout", &c.Restart.PrewarmTimeout},
		{"restart.backoff_min", &c.Restart.BackoffMin},
		{"restart.backoff_max", &c.Restart.BackoffMax},
		{"restart.reset_after", &c.Restart.ResetAfter},
		{"restart.fatal_exit_codes", &c.Restart.FatalExitCodes},
		{"restart.after_exit_0", &c.Restart.AfterExit0},
		{"front_desk", &c.FrontDesk},
		{"alarm.command", &c.Alarm.Command},
		{"alarm.after", &c.Alarm.After},
		{"log.level", &c.Log.Level},
		{"log.format", &c.Log.Format},
	}
}

// Value is one key with its effective value.
type Value struct {
	Key    string
	Value  any    // as it is written in the file: a string, a bool, a []string or a []int
	Source string // "FILE:LINE", the name of a variable, or "default"
}

// Values returns every key with its effective value and where that comes from, in the order of config.example.yaml.
// The entries of worker.environment may be secrets.
func (c *Config) Values() []Value {
	var values []Value
	for _, f := range c.fields() {
		values = append(values, Value{Key: f.key, Value: plain(f.pointer), Source: cmp.Or(c.Source[f.key], "default")})
	}
	return values
}

// Changed returns the keys whose values differ, in the order of config.example.yaml, and nothing if c and other mean
// the same. Where the values come from does not count.
func (c *Config) Changed(other *Config) []string {
	var keys []string
	theirs := other.fields()
	for i, f := range c.fields() {
		if !reflect.DeepEqual(plain(f.pointer), plain(theirs[i].pointer)) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// plain returns the value of a field as it is written in the file.
func plain(pointer any) any {
	switch p := pointer.(type) {
	case *[]Listener:
		return say.Texts(*p)
	case *[]string:
		return append([]string{}, *p...)
	case *[]int:
		return append([]int{}, *p...)
	case *time.Duration:
		return durationText(*p)
	case *syscall.Signal:
		return unix.SignalName(*p)
	case *slog.Level:
		return strings.ToLower(p.String())
	case *bool:
		return *p
	case *int:
		return *p
	case *string:
		return *p
	default:
		panic(pointer) // fields has no other type
	}
}

// durationText writes 5m where time.Duration writes 5m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
