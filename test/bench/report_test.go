package bench

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/test/machine"
)

var sample = report{
	host: []string{"a CPU, 2 cores"},
	aims: []aim{{what: "round trip", ratio: "1.00", want: "1.0", ours: "50 µs", than: "50 µs"}},
	tables: []table{{
		title: "Restarts", text: "How it was done.", head: []string{"system", "lost"},
		rows: [][]string{{"us", "0"}, {"a|b", "two\nlines"}},
	}},
	bars: []bar{
		{name: "us", ours: true, wait: 400 * time.Millisecond, worst: 500 * time.Millisecond},
		{name: "<other> & co", wait: time.Second, worst: 10 * time.Second, lost: 7, failed: "it hung"},
		{name: "missing", failed: "it is not installed"},
	},
}

func TestMarkdown(t *testing.T) {
	page := sample.markdown()
	for _, line := range []string{
		"- a CPU, 2 cores",
		"| what | ratio | aim | gateway | beside it |",
		"| round trip | 1.00 | 1.0 | 50 µs | 50 µs |",
		"How it was done.",
		"| system | lost |\n|---|---|\n| us | 0 |\n| a\\|b | two lines |",
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("the page lacks %q:\n%s", line, page)
		}
	}
	if strings.Index(page, "| round trip") > strings.Index(page, "## Restarts") {
		t.Errorf("the ratios do not come first:\n%s", page)
	}
}

// TestPicture reads the picture as a browser does, and looks for what each system must show.
func TestPicture(t *testing.T) {
	drawn, err := picture(sample.bars)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	widths := map[string]string{} // the last bar of each class
	decoder := xml.NewDecoder(strings.NewReader(drawn))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v:\n%s", err, drawn)
		}
		switch token := token.(type) {
		case xml.CharData:
			texts = append(texts, string(token))
		case xml.StartElement:
			attributes := map[string]string{}
			for _, attribute := range token.Attr {
				attributes[attribute.Name.Local] = attribute.Value
			}
			if token.Name.Local == "rect" {
				widths[attributes["class"]+" "+attributes["x"]] = attributes["width"]
			}
		}
	}
	all := strings.Join(texts, "\n")
	for _, text := range []string{"us", "400 ms, worst 500 ms", "<other> & co", "1.00 s, worst 10.0 s", "7, then failed", "missing", "not measured", "1 ms", "10 ms", "100 ms", "1 s", "10 s"} {
		if !strings.Contains(all, "\n"+text+"\n") {
			t.Errorf("the picture does not say %q:\n%s", text, drawn)
		}
	}
	for bar, want := range map[string]string{"ours worst 210": "216", "ours 210": "208", "ours 700": "0", "bar worst 210": "320", "bar 210": "240", "bar 700": "120"} {
		if widths[bar] != want {
			t.Errorf("bar %q is %q pixels long, want %s:\n%s", bar, widths[bar], want, drawn)
		}
	}
}

func TestWriteRefusesSecrets(t *testing.T) {
	directory := t.TempDir()
	if err := sample.write(directory, []string{"", "a CPU"}); err == nil || !strings.Contains(err.Error(), `"a CPU"`) {
		t.Errorf("writing a report with a secret: %v", err)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) > 0 {
		t.Errorf("it wrote %v (%v)", entries, err)
	}
	if err := sample.write(directory, secrets(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bench.md", "bench.svg"} {
		if content, err := os.ReadFile(filepath.Join(directory, name)); err != nil || len(content) == 0 {
			t.Errorf("%s has %d bytes: %v", name, len(content), err)
		}
	}
}

func TestReasonNamesNoPlace(t *testing.T) {
	err := errors.New("exec /some/where/haproxy in the machine: not found\nstandard error:\nsecret")
	if got, want := reason(err), "exec haproxy in the machine: not found"; got != want {
		t.Errorf("the reason is %q, want %q", got, want)
	}
}

func TestSamples(t *testing.T) {
	for _, test := range []struct {
		samples samples
		want    string
	}{
		{samples{}, "0.0 µs, worst 0.0 µs"},
		{samples{3 * time.Millisecond, time.Microsecond, 2 * time.Second}, "3.0 ms, worst 2.00 s"},
		{samples{300 * time.Millisecond, 12 * time.Second, 100 * time.Millisecond, 200 * time.Millisecond}, "250 ms, worst 12.0 s"},
	} {
		if got := test.samples.String(); got != test.want {
			t.Errorf("%v: %q, want %q", []time.Duration(test.samples), got, test.want)
		}
	}
}

// TestSystemsRestart runs the systems that need nothing but systemd and Node.js, so that what all measurements stand on cannot
// break unseen: a system starts, its worker gives way to the next, beside a stream too, or is killed, and nobody else is lost.
func TestSystemsRestart(t *testing.T) {
	m := boot(t, machine.Options{})
	for _, trial := range []trial{{rounds: 1, times: 2}, {rounds: 1, times: 1, stream: true}, {rounds: 1, times: 1, crash: true}} {
		systems := []system{ours(bootMS), handing(bootMS), plainSocket(bootMS)}
		if trial.crash {
			systems = append(systems, standing())
		}
		results, versions, broken := trial.measure(t, m, systems)
		for _, s := range systems {
			result := results[s.name]
			if broken[s.name] != nil || result.restarts != trial.times || len(result.answers) != trial.times || result.streams > 0 ||
				result.allLost() > 0 && !trial.crash || versions[s.name] == "" {
				t.Errorf("%s, version %q: %+v (%v)", s.name, versions[s.name], *result, broken[s.name])
			}
			if waited := result.waits.worst(); waited < bootMS*time.Millisecond/2 && s.name != handing(0).name && !s.standby {
				t.Errorf("%s: the longest wait was %v, though a worker takes %d ms to boot", s.name, waited, bootMS)
			}
		}
	}
}

func TestBrokenSystemIsReported(t *testing.T) {
	missing := plainSocket(0)
	missing.version = []string{"no-such-program", "--version"}
	failing := direct(0)
	failing.units = []string{"no-such-unit.service"}
	_, _, broken := trial{rounds: 1, times: 1}.measure(t, boot(t, machine.Options{}), []system{missing, failing})
	for name, want := range map[string]string{missing.name: "it is not installed", failing.name: "no-such-unit.service"} {
		if err := broken[name]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", name, err, want)
		}
	}
}
