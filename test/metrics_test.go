package test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/test/machine"
)

// metricsOf is what "gateway metrics" prints, judged by promtool, and its exit status.
func metricsOf(t *testing.T, s *machine.Scope, arguments ...string) (samples map[string]string, code int) {
	t.Helper()
	command := s.Command(t.Context(), gatewayPath, append([]string{"metrics"}, arguments...)...)
	var text strings.Builder
	command.Stdout = &text
	code = exitCode(t, command)
	return samplesIn(t, text.String()), code
}

// samplesIn has promtool judge a text and returns its samples.
func samplesIn(t *testing.T, text string) map[string]string {
	t.Helper()
	judge := exec.CommandContext(t.Context(), "promtool", "check", "metrics")
	judge.Stdin = strings.NewReader(text)
	if said, err := judge.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("promtool check metrics: %v\n%s\nof\n%s", err, said, text)
	}
	samples := map[string]string{}
	for line := range strings.Lines(text) {
		if i := strings.LastIndex(line, " "); !strings.HasPrefix(line, "#") {
			samples[line[:i]] = strings.TrimSpace(line[i:])
		}
	}
	return samples
}

// wantSamples expects some samples, as "NAME VALUE"; others may be there.
func wantSamples(t *testing.T, samples map[string]string, want ...string) {
	t.Helper()
	for _, sample := range want {
		name, value, _ := strings.Cut(sample, " ")
		if samples[name] != value {
			t.Errorf("%s is %q, want %q, in %v", name, samples[name], value, samples)
		}
	}
}

// TestMetrics: what the status has, as Prometheus takes it, of a launcher with traffic and of one that is not there.
func TestMetrics(t *testing.T) { inScopes(t, testMetrics) }

func testMetrics(t *testing.T, here place) {
	m := here.boot(t, machine.Options{})
	root := m.As(m.System())
	if samples, code := metricsOf(t, m.Scope); code != 3 || samples["gateway_up"] != "0" {
		t.Errorf("without a launcher: exit status %d, %v", code, samples)
	}
	install(t, m.Scope, m, worker(nodePath, "-e", drains)+"alive: {queue: 0s}\n")
	if samples, code := metricsOf(t, m.Scope); code != 0 || samples["gateway_up"] != "1" || samples[`gateway_verdict{verdict="waiting"}`] != "1" {
		t.Errorf("before the first client: exit status %d, %v", code, samples)
	}
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 1)
	m.Scope.Run(t, gatewayPath, "restart")
	m.Run(t, "kill", "-KILL", fmt.Sprint(gatewayStatus(t, m.Scope).Worker.PID))
	get(t, m, ipv4, "/")
	serving(t, m.Scope, 3)
	m.As(m.Scope).WriteFile(t, configPath(m.Scope), "worker: 5\n", 0o644)
	if _, err := m.Scope.Output(gatewayPath, "reload"); err == nil {
		t.Error("a configuration with a mistake was taken")
	}
	pid := gatewayStatus(t, m.Scope).Worker.PID
	stopProcess(t, m, pid)
	client := waitingClient(t, m, ipv6)
	samples, code := metricsOf(t, m.Scope)
	wantSamples(t, samples, "gateway_up 1", "gateway_generation 3", `gateway_restarts_total{reason="restart"} 1`, `gateway_restarts_total{reason="crash"} 1`,
		`gateway_restarts_total{reason="hung"} 0`, "gateway_config_rejected 1", "gateway_strays_total 0", `gateway_verdict{verdict="degraded"} 1`,
		fmt.Sprintf("gateway_queue_length{address=%q} 1", ipv6), fmt.Sprintf("gateway_queue_length{address=%q} 0", ipv4),
		fmt.Sprintf("gateway_connections{address=%q} 1", ipv6), fmt.Sprintf("gateway_connections{address=%q} 0", ipv4))
	for _, name := range []string{"gateway_ready_seconds", fmt.Sprintf("gateway_client_wait_seconds{address=%q}", ipv6)} {
		var value float64
		if _, err := fmt.Sscan(samples[name], &value); err != nil || value < 0.001 || value > 60 {
			t.Errorf("%s is %q", name, samples[name])
		}
	}
	if code != 0 {
		t.Errorf("exit status %d of a launcher that answers", code)
	}
	samples, code = metricsOf(t, root.Scope) // root sees that of a user
	if wantSamples(t, samples, "gateway_up 1", "gateway_generation 3"); code != 0 {
		t.Errorf("exit status %d for root", code)
	}
	m.Run(t, "kill", "-CONT", fmt.Sprint(pid))
	client.wantServed(t)

	t.Run("textfile", func(t *testing.T) {
		const file = "/tmp/gateway.prom"
		m.Run(t, gatewayPath, "metrics", "--textfile", file)
		wantSamples(t, samplesIn(t, m.ReadFile(t, file)), "gateway_up 1")
		if mode := m.Run(t, "stat", "--format=%a %F", file); mode != "644 regular file\n" {
			t.Errorf("the file is %s", mode)
		}
		// The folder is whoever's who writes, the way there another user's.
		root.Run(t, "sh", "-c", "useradd mallory && mkdir /opt/victim && chmod 755 /opt/victim && chown "+strings.TrimSpace(m.Run(t, "id", "-un"))+" /opt/victim")
		root.Run(t, "runuser", "-u", "mallory", "--", "ln", "-s", "/opt/victim", "/tmp/link")
		if _, err := m.Output(gatewayPath, "metrics", "--textfile", "/tmp/link/gateway.prom"); err == nil || !strings.Contains(err.Error(), "a link that another user than root can choose") {
			t.Errorf("through a link of another user's: %v", err)
		}
		if left := m.Run(t, "ls", "-A", "/opt/victim"); left != "" {
			t.Errorf("there is %s", left)
		}
		if code := exitCode(t, m.Command(t.Context(), gatewayPath, "metrics", "--textfile", "/tmp/gateway.txt")); code != 64 {
			t.Errorf("a file that node_exporter does not read: exit status %d", code)
		}
	})
	t.Run("as docs/monitoring.md types it", func(t *testing.T) {
		if here.user {
			return // it is about the machine's launcher
		}
		blocks := typable(t, "docs/monitoring.md", "Metrics")
		const folder = "/var/lib/prometheus/node-exporter" // node_exporter's package makes it
		m.Run(t, "mkdir", "-p", folder)
		m.Run(t, "bash", "-euc", "cd\n"+blocks[0])
		m.WaitFile(t, filepath.Join(folder, "gateway.prom"), bound, func(_ string, err error) bool { return err == nil })
		wantSamples(t, samplesIn(t, m.ReadFile(t, filepath.Join(folder, "gateway.prom"))), "gateway_up 1", "gateway_generation 3")
		if state := m.Property(t, "gateway-metrics.timer", "UnitFileState"); state != "enabled" {
			t.Errorf("after a boot the timer is %s", state)
		}
		m.Systemctl(t, "stop", "gateway-metrics.timer")
	})
	t.Run("not running", func(t *testing.T) {
		m.Scope.Run(t, gatewayPath, "stop", "--"+kind(m.Scope))
		for _, arguments := range [][]string{nil, {"--" + kind(m.Scope)}} {
			samples, code := metricsOf(t, m.Scope, arguments...)
			if wantSamples(t, samples, "gateway_up 0", `gateway_verdict{verdict="down"} 1`); code != 3 {
				t.Errorf("exit status %d", code)
			}
		}
		m.Run(t, gatewayPath, "metrics", "--textfile", "/tmp/down.prom")
		wantSamples(t, samplesIn(t, m.ReadFile(t, "/tmp/down.prom")), "gateway_up 0")
	})
}
