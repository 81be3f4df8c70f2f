package metrics

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/say"
)

// Launcher is one of those that are told of.
type Launcher struct {
	api.Status
	Name string // of the instance; "": the default one
	User string // whose scope it is in; "": the system's
}

// answers reports whether the launcher itself has told of its worker.
func (l *Launcher) answers() bool { return l.Config.State != "" }

// Up reports whether the launcher answers, or is started by the next client.
func (l *Launcher) Up() bool {
	up := []api.Verdict{api.VerdictOK, api.VerdictWaiting, api.VerdictStarting, api.VerdictHung}
	return l.answers() || slices.Contains(up, l.Verdict)
}

// family is a metric. Its samples are those of one launcher; what is not known has none.
type family struct {
	name, kind, help string
	samples          func(l *Launcher, add func(value float64, labels ...string))
}

type adder = func(value float64, labels ...string)

var families = []family{
	{"gateway_up", "gauge", "Whether the launcher answers, or is started by the next client.", func(l *Launcher, add adder) {
		add(truth(l.Up()))
	}},
	{"gateway_verdict", "gauge", "The verdict of gateway status: 1 for the present one.", func(l *Launcher, add adder) {
		for _, verdict := range api.Verdicts {
			add(truth(verdict == l.Verdict), "verdict", string(verdict))
		}
	}},
	{"gateway_generation", "gauge", "Number of the present generation of the worker, or of the last one.", ofWorker(func(l *Launcher, add adder) {
		add(float64(l.Worker.Generation))
	})},
	{"gateway_restarts_total", "counter", "Generations of the worker that have ended since the launcher started, by reason.", ofWorker(func(l *Launcher, add adder) {
		for _, reason := range api.Reasons {
			if i := slices.IndexFunc(l.Worker.Ends, func(e api.Ends) bool { return e.Reason == reason }); i >= 0 {
				add(float64(l.Worker.Ends[i].Count), "reason", reason)
			}
		}
	})},
	{"gateway_ready_seconds", "gauge", "How long the present generation needed from its start until it was ready.", ofWorker(func(l *Launcher, add adder) {
		if l.Worker.ReadyAfterMS > 0 {
			add(float64(l.Worker.ReadyAfterMS) / 1000)
		}
	})},
	{"gateway_queue_length", "gauge", "Clients that wait to be accepted.", ofSockets(func(s api.Socket) (float64, bool) {
		return float64(s.Queued), true
	})},
	{"gateway_client_wait_seconds", "gauge", "How long the oldest client in the queue has waited.", ofSockets(func(s api.Socket) (float64, bool) {
		return s.WaitingS, true
	})},
	{"gateway_connections", "gauge", "Established connections, those in the queue included.", ofSockets(func(s api.Socket) (float64, bool) {
		if s.Connections == nil {
			return 0, false
		}
		return float64(*s.Connections), true
	})},
	{"gateway_strays_total", "counter", "Processes that ended generations had left, and that were ended, since the launcher started.", ofWorker(func(l *Launcher, add adder) {
		add(float64(l.Worker.StraysEnded))
	})},
	{"gateway_config_rejected", "gauge", "Whether the configuration file as it is was not applied.", ofWorker(func(l *Launcher, add adder) {
		add(truth(l.Config.State == api.ConfigRejected))
	})},
}

// ofWorker are samples of what only the launcher knows.
func ofWorker(samples func(*Launcher, adder)) func(*Launcher, adder) {
	return func(l *Launcher, add adder) {
		if l.answers() {
			samples(l, add)
		}
	}
}

// mostAddresses are as many as listen has at the most.
const mostAddresses = 64

// ofSockets are samples of addresses, each once: of several sockets on one the largest counts. A launcher of another user's may say
// anything: what is no address makes no series.
func ofSockets(value func(api.Socket) (float64, bool)) func(*Launcher, adder) {
	return func(l *Launcher, add adder) {
		largest := map[string]float64{}
		var addresses []string
		for _, socket := range l.Sockets {
			v, known := value(socket)
			at, err := socket.At()
			if !known || err != nil {
				continue
			}
			address := at.String()
			if strings.HasPrefix(socket.Address, "*:") {
				address = fmt.Sprintf("*:%d", at.Port())
			}
			if _, again := largest[address]; !again {
				addresses = append(addresses, address)
			}
			largest[address] = max(largest[address], v)
		}
		addresses = addresses[:min(len(addresses), mostAddresses)]
		for _, address := range addresses {
			add(largest[address], "address", address)
		}
	}
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// Text is the text of them. Where there are several, the samples of each say its scope, and in a user's scope its user; those of a named one its name.
func Text(all []Launcher) []byte {
	var text bytes.Buffer
	for _, f := range families {
		var lines bytes.Buffer
		for i := range all {
			l := &all[i]
			var which []string
			if len(all) > 1 {
				which = append(which, "scope", "system")
				if l.User != "" {
					which = []string{"scope", "user", "user", l.User}
				}
			}
			if l.Name != "" {
				// Not "instance", which Prometheus gives to what it scrapes. Also where it is alone: a file for each instance must
				// not have the same sample as another.
				which = append(which, "name", l.Name)
			}
			f.samples(l, func(value float64, labels ...string) {
				fmt.Fprintf(&lines, "%s%s %s\n", f.name, labelled(slices.Concat(labels, which)), strconv.FormatFloat(value, 'g', -1, 64))
			})
		}
		if lines.Len() > 0 {
			fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n%s", f.name, f.help, f.name, f.kind, lines.Bytes())
		}
	}
	return text.Bytes()
}

// labelled writes names and values; a value may be the word of another user's launcher.
func labelled(pairs []string) string {
	var labels []string
	for pair := range slices.Chunk(pairs, 2) {
		value := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(say.Printable(pair[1])) // in which no line ends
		labels = append(labels, fmt.Sprintf(`%s="%s"`, pair[0], value))
	}
	if len(labels) == 0 {
		return ""
	}
	return "{" + strings.Join(labels, ",") + "}"
}
