package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
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
	memory  int64 // the most that it had at a time, in bytes
}

// openClaw restarts the real OpenClaw under the launcher, without and with Node's compile cache and prewarmed, and under the unit that its own
// "gateway install" writes, each for a user of its own, in turns.
func openClaw(b *testing.B, r *report) {
	const most, times = 2, 2
	// …/node_modules/openclaw/dist/index.js
	modules := filepath.Dir(filepath.Dir(filepath.Dir(required(b, "OPENCLAW_ENTRY"))))
	m := boot(b, machine.Options{Users: true, Binds: map[string]string{"/opt/openclaw/node_modules": modules}})
	own := itself(b, m)
	without := launched(b, m, "gateway, without worker.cache", "plain", "  cache: off\n", "")
	cached := launched(b, m, "gateway", "cached", "", "")
	prewarmed := launched(b, m, "gateway, restart.prewarm", "prewarmed", "", "restart: {prewarm: on}\n")
	all := []*supervised{without, cached, prewarmed, own}
	prewarmed.learn(b, m)
	rounds := 0
	for took := time.Duration(0); rounds < most && time.Now().Add(took).Before(r.deadline); rounds++ {
		start := time.Now()
		for _, s := range all {
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
	table := table{
		title: "Restarts of the real OpenClaw",
		text: fmt.Sprintf("%d restarts in each of %d runs, in turns. Four clients at a time ask for /healthz, each over a new connection and 50 ms after "+
			"the last answer, and give up after %.0f minutes. The stall is the longest time of a run in which nobody was answered, and the memory the "+
			"most that the service had in its control group.", times, rounds, openClawBound.Minutes()),
		head: []string{"supervisor", "stall against its own unit's", "stall", "clients lost", "memory", "requests", "restarts"},
	}
	for _, s := range all {
		table.rows = append(table.rows, []string{
			s.name, ratio(s.result.silences.median(), own.result.silences.median()), s.result.silences.String(),
			losses(s.result.lost), fmt.Sprintf("%d MiB", s.memory>>20), fmt.Sprint(s.result.requests), fmt.Sprint(s.result.restarts),
		})
	}
	r.tables = append(r.tables, table)
	for _, a := range []struct {
		what, want string
		us         *supervised
	}{
		{"stall in a restart of the real OpenClaw", "0.75, nobody lost", cached},
		{"the same with restart.prewarm", "0.6, nobody lost", prewarmed},
	} {
		us, than := a.us.result, own.result
		r.aims = append(r.aims, aim{
			what: a.what, want: a.want, ratio: ratio(us.silences.median(), than.silences.median()),
			ours: us.silences.String() + "; lost: " + losses(us.lost),
			than: own.name + ": " + than.silences.String() + "; lost: " + losses(than.lost),
		})
	}
}

func addUser(b *testing.B, m *machine.Machine, name string) *machine.Scope {
	s := m.AddUser(b, name)
	m.WriteFile(b, s.Home()+"/.openclaw/openclaw.json", openClawSettings, 0o600)
	m.Run(b, "chown", "--recursive", name+":", s.Home())
	return s
}

// launched installs the launcher for a user, with the configuration of docs/openclaw.md, and more of the worker's and more.
func launched(b *testing.B, m *machine.Machine, name, user, ofWorker, more string) *supervised {
	s := addUser(b, m, user)
	configuration := fmt.Sprintf(`listen: [%q, "[::1]:18789"]
worker:
  command: [%s, %s, gateway, run, --port, "18789", --bind, loopback]
  environment:
    - OPENCLAW_SUPERVISOR_MODE=external
    - OPENCLAW_SERVICE_REPAIR_POLICY=external
    - OPENCLAW_GATEWAY_PORT=18789
%sready:
  path: /startupz
%s`, openClawAddress, nodePath, openClawEntry, ofWorker, more)
	m.WriteFile(b, s.Home()+"/.config/openclaw-gateway/config.yaml", configuration, 0o600)
	m.Run(b, "chown", "--recursive", user+":", s.Home())
	s.Run(b, gatewayPath, "install", "--user")
	return &supervised{
		name: name, scope: s, units: []string{launcherSocket, launcherUnit}, restart: []string{gatewayPath, "restart", "--user"},
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

// learn has it tell which modules it loads: a start that nobody measures.
func (s *supervised) learn(b *testing.B, m *machine.Machine) {
	s.scope.Systemctl(b, append([]string{"start"}, s.units...)...)
	ctx, cancel := context.WithTimeout(b.Context(), openClawBound)
	defer cancel()
	if _, err := firstAnswer(ctx, m, "http://"+openClawAddress+"/startupz"); err != nil {
		b.Fatal(err)
	}
	m.WaitFile(b, s.scope.Home()+"/.cache/openclaw-gateway/prewarm/modules.json", openClawBound, func(_ string, err error) bool { return err == nil })
	s.scope.Run(b, gatewayPath, "restart", "--user") // which has the list examined
	s.scope.Systemctl(b, append([]string{"stop"}, s.units...)...)
}

func (s *supervised) restartUnderLoad(b *testing.B, m *machine.Machine, times int) (done int, report load.Report, err error) {
	const origin = "http://" + openClawAddress
	if _, err := s.scope.Output("systemctl", append([]string{"--user", "start"}, s.units...)...); err != nil {
		return 0, report, err
	}
	defer func() {
		peak, _ := s.scope.Output("cat", "/sys/fs/cgroup"+s.scope.Cgroup(launcherUnit)+"/memory.peak") // since Linux 5.19
		if bytes, parseErr := strconv.ParseInt(strings.TrimSpace(peak), 10, 64); parseErr == nil {
			s.memory = max(s.memory, bytes)
		}
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
