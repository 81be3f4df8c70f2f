package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

const (
	openClawEntry   = "/opt/openclaw/node_modules/openclaw/dist/index.js"
	openClawToken   = "a-token-that-is-long-enough-for-a-benchmark"
	openClawAddress = "127.0.0.1:18789"
	// openClawSettings is OpenClaw's own configuration, the same for both.
	openClawSettings = `{"gateway": {"mode": "local", "bind": "loopback", "auth": {"mode": "token", "token": "` + openClawToken + `"}}}`
	// openClawBound is for one start of OpenClaw; it takes about 10 s on two idle cores.
	openClawBound = 3 * time.Minute
)

// supervised is OpenClaw in one user's service manager.
type supervised struct {
	name    string
	scope   *machine.Scope
	units   []string
	restart []string
	result  restartsOf
}

// openClaw restarts the real OpenClaw under the launcher and under the unit that its own "gateway install" writes, each for
// a user of its own, in turns.
func openClaw(b *testing.B, r *report) {
	const most, times = 2, 2
	// …/node_modules/openclaw/dist/index.js
	modules := filepath.Dir(filepath.Dir(filepath.Dir(required(b, "OPENCLAW_ENTRY"))))
	m := boot(b, machine.Options{Users: true, Binds: map[string]string{"/opt/openclaw/node_modules": modules}})
	both := []*supervised{launched(b, m), itself(b, m)}
	rounds := 0
	for took := time.Duration(0); rounds < most && time.Now().Add(took).Before(r.deadline); rounds++ {
		start := time.Now()
		for _, s := range both {
			done, report, err := s.restartUnderLoad(b, m, times)
			progress("OpenClaw, %s: %d restarts, %s", s.name, done, report)
			s.result.add(report, done)
			if err != nil {
				b.Fatalf("%s: %v", s.name, err)
			}
		}
		took = time.Since(start)
	}
	if rounds == 0 {
		b.Fatal("the other measurements have left no time")
	}
	us, own := both[0].result, both[1].result
	table := table{
		title: "Restarts of the real OpenClaw",
		text: fmt.Sprintf("%d restarts in each of %d runs, in turns. Four clients at a time ask for /healthz, each over a new connection and 50 ms after "+
			"the last answer, and give up after %.0f minutes. The stall is the longest time of a run in which nobody was answered.", times, rounds, openClawBound.Minutes()),
		head: []string{"supervisor", "stall against its own unit's", "stall", "clients lost", "requests", "restarts"},
	}
	for _, s := range both {
		table.rows = append(table.rows, []string{
			s.name, ratio(s.result.silences.median(), own.silences.median()), s.result.silences.String(),
			losses(s.result.lost), fmt.Sprint(s.result.requests), fmt.Sprint(s.result.restarts),
		})
	}
	r.tables = append(r.tables, table)
	r.aims = append(r.aims, aim{
		what: "stall in a restart of the real OpenClaw", want: "nobody lost", ratio: ratio(us.silences.median(), own.silences.median()),
		ours: us.silences.String() + "; lost: " + losses(us.lost),
		than: both[1].name + ": " + own.silences.String() + "; lost: " + losses(own.lost),
	})
}

func addUser(b *testing.B, m *machine.Machine, name string) *machine.Scope {
	s := m.AddUser(b, name)
	m.WriteFile(b, s.Home()+"/.openclaw/openclaw.json", openClawSettings, 0o600)
	m.Run(b, "chown", "--recursive", name+":", s.Home())
	return s
}

// launched installs the launcher for a user, with the configuration of the README.
func launched(b *testing.B, m *machine.Machine) *supervised {
	s := addUser(b, m, "claw")
	configuration := fmt.Sprintf(`listen: [%q, "[::1]:18789"]
worker:
  command: [%s, %s, gateway, run, --port, "18789", --bind, loopback]
  environment:
    - OPENCLAW_SUPERVISOR_MODE=external
    - OPENCLAW_SERVICE_REPAIR_POLICY=external
    - OPENCLAW_GATEWAY_PORT=18789
ready:
  path: /startupz
`, openClawAddress, nodePath, openClawEntry)
	m.WriteFile(b, s.Home()+"/.config/openclaw-gateway/config.yaml", configuration, 0o600)
	m.Run(b, "chown", "--recursive", "claw:", s.Home())
	s.Run(b, gatewayPath, "install", "--user")
	return &supervised{
		name: "gateway", scope: s, units: []string{launcherSocket, launcherUnit}, restart: []string{gatewayPath, "restart", "--user"},
	}
}

// itself installs OpenClaw's own unit for a user.
func itself(b *testing.B, m *machine.Machine) *supervised {
	s := addUser(b, m, "own")
	s.Run(b, nodePath, openClawEntry, "gateway", "install", "--port", "18789", "--runtime-path", nodePath)
	s.Systemctl(b, "stop", launcherUnit)
	return &supervised{
		name: "OpenClaw's own unit", scope: s, units: []string{launcherUnit}, restart: []string{"systemctl", "--user", "restart", launcherUnit},
	}
}

func (s *supervised) restartUnderLoad(b *testing.B, m *machine.Machine, times int) (done int, report load.Report, err error) {
	const origin = "http://" + openClawAddress
	if _, err := s.scope.Output("systemctl", append([]string{"--user", "start"}, s.units...)...); err != nil {
		return 0, report, err
	}
	defer func() {
		_, stopErr := s.scope.Output("systemctl", append([]string{"--user", "stop"}, s.units...)...)
		err = errors.Join(err, stopErr)
	}()
	ctx, cancel := context.WithTimeout(b.Context(), openClawBound)
	defer cancel()
	if _, err := firstAnswer(ctx, m, origin+"/startupz"); err != nil {
		return 0, report, err
	}
	l := load.Start(b.Context(), load.Options{URL: origin + "/healthz", Dial: m.DialContext, Limit: openClawBound, Pause: 50 * time.Millisecond})
	for done < times && err == nil {
		ctx, cancel := context.WithTimeout(b.Context(), 2*openClawBound)
		if err = l.WaitOK(ctx, 20); err == nil {
			_, err = s.scope.Output(s.restart[0], s.restart[1:]...)
		}
		// The old process has ended: whoever answers now is the new one.
		if err == nil {
			_, err = firstAnswer(ctx, m, origin+"/startupz")
		}
		if err == nil {
			err = l.WaitOK(ctx, 20)
		}
		if err == nil {
			done++
		}
		cancel()
	}
	return done, l.Stop(), err
}
