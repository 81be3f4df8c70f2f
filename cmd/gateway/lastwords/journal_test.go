package lastwords

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/cmd/gateway/api"
)

// TestDecode: whatever a worker has written is one printable line without its secrets.
func TestDecode(t *testing.T) {
	long := strings.Repeat("x", 3*longest)
	for answer, want := range map[string][]string{
		"":                                     {},
		`{"MESSAGE":"listening"}`:              {"listening"},
		`{"MESSAGE":null}` + "\n{}":            {"", ""},
		`{"MESSAGE":"a\u001b[31m\nb\t\u202e"}`: {`a\x1b[31m\nb\t\u202e`},
		`{"MESSAGE":[104,105,255,27]}`:         {`hi\xff\x1b`},
		`{"MESSAGE":["x",{},300]}`:             {`,`},
		`{"MESSAGE":"--token s3cret TOKEN=s3cret {\"apiKey\":\"s3cret\"} Authorization: Bearer s3cret"}`: {
			`--token *** TOKEN=*** {"apiKey":***} Authorization: ***`,
		},
		`{"MESSAGE":"` + long + `"}`: {long[:longest] + "…"},
	} {
		got, err := decode(strings.NewReader(answer))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got)\n%s", answer, err, diff)
		}
	}
	if got, err := decode(strings.NewReader(`{"MESSAGE":"whole"}` + "\n" + `{"MESS`)); err == nil || len(got) != 1 {
		t.Errorf("a torn answer: %q, %v", got, err)
	}
}

// TestTail: what a stack trace is about is told, however deep it is.
func TestTail(t *testing.T) {
	times := func(n int, lines ...string) (all []string) {
		for range n {
			all = append(all, lines...)
		}
		return all
	}
	all := func(parts ...any) (lines []string) {
		for _, part := range parts {
			switch part := part.(type) {
			case string:
				lines = append(lines, part)
			case []string:
				lines = append(lines, part...)
			}
		}
		return lines
	}
	const frame = "    at Module._compile (node:internal/modules/cjs/loader:1554:14)"
	for name, test := range map[string]struct{ lines, want []string }{
		"short": {all("a", "", frame, frame), all("a", "", frame, frame)},
		"long":  {all("first", times(10, "x")), times(10, "x")},
		"Node.js": {
			all("/srv/app.js:3", "    throw new Error('no token')", "    ^", "", "Error: no token", times(12, frame), "", "Node.js v24.21.0"),
			all("/srv/app.js:3", "    throw new Error('no token')", "    ^", "Error: no token", frame, "Node.js v24.21.0"),
		},
		"Node.js, with a cause": {
			all("Error: no token", times(12, frame), "  [cause]: Error: no file", times(12, frame), "}"),
			all("Error: no token", frame, "  [cause]: Error: no file", frame, "}"),
		},
		"Java": {
			all("Exception in thread \"main\" java.lang.Error: no token", times(12, `\tat app.Main.main(Main.java:3)`), `\t... 12 more`),
			all("Exception in thread \"main\" java.lang.Error: no token", `\tat app.Main.main(Main.java:3)`),
		},
		"Ruby": {
			all("app.rb:1:in `a': no token (RuntimeError)", times(12, `\tfrom app.rb:5:in `+"`<main>'")),
			all("app.rb:1:in `a': no token (RuntimeError)", `\tfrom app.rb:5:in `+"`<main>'"),
		},
		"Go": {
			all("panic: no token", "", "goroutine 1 [running]:", times(12, "main.f(...)", `\t/src/main.go:9 +0x1d`), "exit status 2"),
			all("panic: no token", "goroutine 1 [running]:", "main.f(...)", `\t/src/main.go:9 +0x1d`, "exit status 2"),
		},
		"Python": {
			all(times(12, `  File "/srv/app.py", line 3, in <module>`), "RuntimeError: no token"),
			all(times(9, `  File "/srv/app.py", line 3, in <module>`), "RuntimeError: no token"),
		},
	} {
		if diff := cmp.Diff(test.want, tail(test.lines)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// TestInTrouble: whose words tell what is wrong.
func TestInTrouble(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	crashed := &api.Exit{Generation: 6, PID: 60, Reason: "crash", At: at, LivedMS: 2000}
	asked := &api.Exit{Generation: 6, PID: 60, Reason: "restart", At: at}
	for name, test := range map[string]struct {
		worker api.Worker
		want   int // generation; 0: nobody's
	}{
		"serves":                   {api.Worker{State: "ready", PID: 70, Generation: 7}, 0},
		"serves after a restart":   {api.Worker{State: "ready", PID: 70, Generation: 7, LastExit: asked}, 0},
		"serves after a crash":     {api.Worker{State: "ready", PID: 70, Generation: 7, LastExit: crashed}, 6},
		"backoff":                  {api.Worker{State: "backoff", Generation: 6, LastExit: crashed}, 6},
		"starts after a crash":     {api.Worker{State: "starting", PID: 70, Generation: 7, LastExit: crashed}, 6},
		"starts":                   {api.Worker{State: "starting", PID: 70, Generation: 7, LastExit: asked}, 7},
		"is ended after a crash":   {api.Worker{State: "stopping", PID: 70, Generation: 7, LastExit: crashed}, 7},
		"hangs":                    {api.Worker{State: "ready", PID: 70, Generation: 7, Hung: &api.Hung{}, LastExit: crashed}, 7},
		"waits":                    {api.Worker{State: "waiting"}, 0},
		"could not be started":     {api.Worker{State: "failed", LastExit: &api.Exit{Generation: 1, Reason: "crash", At: at}}, 1},
		"waits after an idle stop": {api.Worker{State: "waiting", Generation: 6, LastExit: &api.Exit{Generation: 6, Reason: "idle"}}, 0},
	} {
		life, ok := inTrouble(&api.Status{Worker: test.worker})
		if life.Generation != test.want || ok != (test.want != 0) {
			t.Errorf("%s: %+v, want %d", name, life, test.want)
		}
		if life.Generation == 6 && (!life.From.Equal(at.Add(-2*time.Second)) || !life.Until.Equal(at) || life.PID != 60) {
			t.Errorf("%s: %+v", name, life)
		}
	}
}
