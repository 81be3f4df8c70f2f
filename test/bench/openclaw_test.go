package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

const (
	openClawToken   = "a-token-that-is-long-enough-for-a-benchmark"
	openClawAddress = "127.0.0.1:18789"
	// openClawSettings is OpenClaw's own configuration, the same for both.
	openClawSettings = `{"gateway": {"mode": "local", "bind": "loopback", "auth": {"mode": "token", "token": "` + openClawToken + `"}}}`
	// openClawBound is for one start of OpenClaw; it takes about 10 s on two idle cores.
	openClawBound = 3 * time.Minute
)

// release is a version of OpenClaw, and where it tells that it serves.
type release struct {
	version, entry, ready string
	used                  bool // its state is one of an OpenClaw in use, which has a database for each agent
}

// released is the OpenClaw with the entry that a variable names, bound to the place in the machine.
func released(b *testing.B, variable, place, ready string, used bool, binds map[string]string) release {
	b.Helper()
	entry := required(b, variable) // …/node_modules/openclaw/dist/index.js
	content, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(entry)), "package.json"))
	var of struct {
		Version string `json:"version"`
	}
	if err := errors.Join(err, json.Unmarshal(content, &of)); err != nil {
		b.Fatal(err)
	}
	binds[place+"/node_modules"] = filepath.Dir(filepath.Dir(filepath.Dir(entry)))
	return release{of.Version, place + "/node_modules/openclaw/dist/index.js", ready, used}
}

// supervised is OpenClaw in one user's service manager.
type supervised struct {
	name    string
	release release
	scope   *machine.Scope
	units   []string
	restart []string // nil: its worker is killed, with a standby where there is to be one
	standby bool
	result  restartsOf
	memory  int64 // the most that it had at a time, in bytes
}

// openClaw restarts the real OpenClaw under the launcher, without and with Node's compile cache and prewarmed, and under the unit that its own
// "gateway install" writes, each for a user of its own, in turns; and kills it.
func openClaw(b *testing.B, r *report) {
	const most, times = 2, 2
	binds := map[string]string{}
	latest := released(b, "OPENCLAW_ENTRY", "/opt/openclaw", "/startupz", true, binds)
	old := released(b, "OLD_OPENCLAW_ENTRY", "/opt/old", "/healthz", false, binds)
	m := boot(b, machine.Options{Users: true, Binds: binds})
	own := itself(b, m, latest, "own")
	without := launched(b, m, latest, "gateway, without worker.cache", "plain", "  cache: off\n", "")
	cached := launched(b, m, latest, "gateway", "cached", "", "")
	prewarmed := launched(b, m, latest, "gateway, restart.prewarm", "prewarmed", "", "restart: {prewarm: on}\n")
	ownKilled := itself(b, m, latest, "ownkilled")
	standing := launched(b, m, latest, "gateway, restart.prewarm and standby", "standing", "",
		"restart: {prewarm: on, standby: true, reset_after: 1s, backoff_min: 100ms}\n")
	ownKilled.restart, standing.restart, standing.standby = nil, nil, true
	ownOld := itself(b, m, old, "ownold")
	prewarmedOld := launched(b, m, old, "gateway, restart.prewarm", "prewarmedold", "", "restart: {prewarm: on}\n")
	all := []*supervised{without, cached, prewarmed, own, standing, ownKilled, prewarmedOld, ownOld}
	than := map[*supervised]*supervised{without: own, cached: own, prewarmed: own, standing: ownKilled, prewarmedOld: ownOld}
	for _, s := range all {
		s.use(b, m)
	}
	rounds := 0
	for took := time.Duration(0); rounds < most && time.Now().Add(took).Before(r.deadline); rounds++ {
		start := time.Now()
		for _, s := range all {
			done, report, err := s.restartUnderLoad(b, m, times)
			progress("OpenClaw %s, %s: %d times, %s", s.release.version, s.what(), done, report)
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
		text: fmt.Sprintf("%d restarts, or kills, in a run, in turns, of %s on a state that has been used, with an agent's database, and of %s; runs: %d. "+
			"Four clients at a time ask for /healthz, each over a new connection and 50 ms after the last answer, and give up after %.0f minutes. The stall is "+
			"the longest time of a run in which nobody was answered, and the memory the most that the service had in its control group. Whoever was being "+
			"answered by a worker that is killed is lost with any supervisor.", times, latest.version, old.version, rounds, openClawBound.Minutes()),
		head: []string{"OpenClaw", "supervisor", "stall against its own unit's", "stall", "clients lost", "memory", "requests", "times"},
	}
	for _, s := range all {
		row := []string{
			s.release.version, s.what(), "1.00", s.result.silences.String(), losses(s.result.lost), "–", fmt.Sprint(s.result.requests), fmt.Sprint(s.result.restarts),
		}
		if than := than[s]; than != nil {
			row[2] = ratio(s.result.silences.median(), than.result.silences.median())
		}
		if s.memory > 0 {
			row[5] = fmt.Sprintf("%d MiB", s.memory>>20)
		}
		table.rows = append(table.rows, row)
	}
	if !slices.ContainsFunc(all, func(s *supervised) bool { return s.memory > 0 }) {
		table.text += " No memory is shown, because this kernel does not count it by control group."
	}
	r.tables = append(r.tables, table)
	for _, a := range []struct {
		what, want string
		us         *supervised
	}{
		{"stall in a restart of the real OpenClaw " + latest.version, "0.75, nobody lost", cached},
		{"the same with restart.prewarm", "0.6, nobody lost", prewarmed},
		{"the same, kill -9 with a standby", "", standing},
		{"restart.prewarm with OpenClaw " + old.version, "0.6, nobody lost", prewarmedOld},
	} {
		us, own := a.us.result, than[a.us]
		than := own.result
		r.aims = append(r.aims, aim{
			what: a.what, want: a.want, ratio: ratio(us.silences.median(), than.silences.median()),
			ours: us.silences.String() + "; lost: " + losses(us.lost),
			than: own.what() + ": " + than.silences.String() + "; lost: " + losses(than.lost),
		})
	}
}

// what is its name, and what is done to it.
func (s *supervised) what() string {
	if s.restart == nil {
		return s.name + ", kill -9"
	}
	return s.name
}

func addUser(b *testing.B, m *machine.Machine, name string) *machine.Scope {
	s := m.AddUser(b, name)
	m.WriteFile(b, s.Home()+"/.openclaw/openclaw.json", openClawSettings, 0o600)
	m.Run(b, "chown", "--recursive", name+":", s.Home())
	return s
}

// launched installs the launcher for a user, with the configuration of docs/openclaw.md, and more of the worker's and more.
func launched(b *testing.B, m *machine.Machine, of release, name, user, ofWorker, more string) *supervised {
	s := addUser(b, m, user)
	configuration := fmt.Sprintf(`listen: [%q, "[::1]:18789"]
worker:
  command: [%s, %s, gateway, run, --port, "18789", --bind, loopback]
  environment:
    - OPENCLAW_SUPERVISOR_MODE=external
    - OPENCLAW_SERVICE_REPAIR_POLICY=external
    - OPENCLAW_GATEWAY_PORT=18789
%sready:
  path: %s
%s`, openClawAddress, nodePath, of.entry, ofWorker, of.ready, more)
	m.WriteFile(b, s.Home()+"/.config/openclaw-gateway/config.yaml", configuration, 0o600)
	m.Run(b, "chown", "--recursive", user+":", s.Home())
	s.Run(b, gatewayPath, "install", "--user")
	return &supervised{
		name: name, release: of, scope: s, units: []string{launcherSocket, launcherUnit}, restart: []string{gatewayPath, "restart", "--user"},
	}
}

// itself installs OpenClaw's own unit for a user.
func itself(b *testing.B, m *machine.Machine, of release, user string) *supervised {
	s := addUser(b, m, user)
	install := []string{of.entry, "gateway", "install", "--port", "18789"}
	if of.used { // the latest one, which has to be told
		install = append(install, "--runtime-path", nodePath)
	}
	s.Run(b, nodePath, install...)
	s.Systemctl(b, "stop", launcherUnit)
	return &supervised{
		name: "OpenClaw's own unit", release: of, scope: s, units: []string{launcherUnit}, restart: []string{"systemctl", "--user", "restart", launcherUnit},
	}
}

// use has it run once as nobody measures it: a session is begun, where the state is to have been used, and it tells which modules it loads,
// where those are to be loaded ahead.
func (s *supervised) use(b *testing.B, m *machine.Machine) {
	s.scope.Systemctl(b, append([]string{"start"}, s.units...)...)
	ctx, cancel := context.WithTimeout(b.Context(), openClawBound)
	defer cancel()
	if _, err := firstAnswer(ctx, m, "http://"+openClawAddress+s.release.ready); err != nil {
		b.Fatal(err)
	}
	there := func(_ string, err error) bool { return err == nil }
	if s.release.used {
		s.scope.Run(b, nodePath, s.release.entry, "gateway", "call", "sessions.create", "--token", openClawToken, "--url", "ws://"+openClawAddress,
			"--params", `{"key": "agent:main:main"}`)
		m.WaitFile(b, s.scope.Home()+"/.openclaw/agents/main/agent/openclaw-agent.sqlite", openClawBound, there)
	}
	if strings.Contains(s.name, "prewarm") {
		m.WaitFile(b, s.scope.Home()+"/.cache/openclaw-gateway/prewarm/modules.json", openClawBound, there)
		s.scope.Run(b, gatewayPath, "restart", "--user") // which has the list examined
	}
	s.scope.Systemctl(b, append([]string{"stop"}, s.units...)...)
}

// end has what serves end: by a restart, or by a signal that leaves it no time.
func (s *supervised) end(ctx context.Context) error {
	if s.restart != nil {
		_, err := s.scope.Output(s.restart[0], s.restart[1:]...)
		return err
	}
	pid, err := s.scope.Output("systemctl", "--user", "show", "--property=MainPID", "--value", launcherUnit)
	if s.standby {
		var status api.Status
		if status, err = standsBy(ctx, s.scope, []string{gatewayPath, "status", "--user", "--json"}); err == nil {
			pid = strconv.Itoa(status.Worker.PID)
		}
	}
	if err != nil {
		return err
	}
	_, err = s.scope.Output("kill", "-KILL", strings.TrimSpace(pid))
	return err
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
	if _, err := firstAnswer(ctx, m, origin+s.release.ready); err != nil {
		return 0, report, err
	}
	l := load.Start(b.Context(), load.Options{URL: origin + "/healthz", Dial: m.DialContext, Limit: openClawBound, Pause: 50 * time.Millisecond})
	for done < times && err == nil {
		ctx, cancel := context.WithTimeout(b.Context(), 2*openClawBound)
		if err = l.WaitOK(ctx, 20); err == nil {
			err = s.end(ctx)
		}
		// The old process has ended: whoever answers now is the new one.
		if err == nil {
			_, err = firstAnswer(ctx, m, origin+s.release.ready)
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
