package lines

import (
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/dropins"
)

func TestEnds(t *testing.T) {
	for line, want := range map[string]bool{
		"-/usr/bin/fuser -k 18789/tcp":                               true,
		"/bin/sh -c 'lsof -ti:18789 | xargs -r kill -9'":             true,
		"/bin/bash -c \"pkill -f openclaw || true\"":                 true,
		"/bin/sh -c 'test -e /x && systemctl reset-failed openclaw'": true,
		"/usr/bin/openclaw gateway stop":                             true,
		"-+/usr/bin/env A=1 pkill node":                              true,
		"/bin/mkdir -p /opt/openclaw /run/kill":                      false,
		"/bin/sleep 10":                                              false,
		"/bin/sh -c 'echo kill openclaw > /tmp/x'":                   false,
		"/usr/bin/install -d -o alice /var/lib/openclaw":             false,
	} {
		if got := ends(line); got != want {
			t.Errorf("%s: %t", line, got)
		}
	}
}

// TestShown has what is told of a command line be what stands in the unit, without its secrets.
func TestShown(t *testing.T) {
	for value, want := range map[string]string{
		`/bin/sh -c "logger 'up again; now'"`:         `ExecStartPost=/bin/sh -c "logger 'up again; now'"`,
		`-"/opt/my bot/hook" --token hunter2 x "y z"`: `ExecStartPost="-/opt/my bot/hook" --token *** x "y z"`,
	} {
		got := Carry([]dropins.Assignment{{Section: "Service", Name: "ExecStartPost", Value: value}}, "claw.service")
		if len(got.Kept) != 1 || got.Kept[0].What != want {
			t.Errorf("%s is shown as %+v, want %s", value, got.Kept, want)
		}
		if line := "ExecStartPost=" + value; len(got.Service) != 1 || got.Service[0] != line {
			t.Errorf("%s goes on as %q", line, got.Service)
		}
	}
}

// TestCarry goes through what real units have.
func TestCarry(t *testing.T) {
	for _, c := range []struct {
		name, text    string
		unit, service string // of the drop-in, joined by " | "
		socket        string
		lost          string // the settings, joined by blanks
		old           string
	}{
		{
			name: "OpenClaw 2026.9.6", text: `[Unit]
Description=OpenClaw Gateway
After=network-online.target
Wants=network-online.target
StartLimitBurst=10
StartLimitIntervalSec=300

[Service]
ExecStart=/usr/bin/node --max-old-space-size=2048 /usr/lib/node_modules/openclaw/dist/index.js gateway --port 18789
Restart=always
RestartSec=5
RestartPreventExitStatus=78
TimeoutStopSec=330
TimeoutStartSec=30
SuccessExitStatus=0 143
OOMPolicy=continue
KillMode=mixed
EnvironmentFile=-/home/alice/.openclaw/gateway.systemd.env
Environment=HOME=/home/alice
[Install]
WantedBy=default.target
`, lost: "StartLimitBurst StartLimitIntervalSec Restart RestartSec TimeoutStartSec SuccessExitStatus",
		},
		{
			name: "OpenClaw 2026.5.5", text: "[Service]\nKillMode=control-group\nTimeoutStopSec=30\nRestart=always\n", lost: "KillMode Restart",
		},
		{
			name: "a sandbox", text: `[Service]
ProtectSystem=strict
ReadWritePaths=/home/alice /srv/a
ReadWritePaths=
ReadWritePaths=/home/alice
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_CHOWN
Delegate=no
MemoryMax=2G
`, service: "ProtectSystem=strict | ReadWritePaths=/home/alice /srv/a | ReadWritePaths= | ReadWritePaths=/home/alice | RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX | " +
				"CapabilityBoundingSet= | CapabilityBoundingSet=CAP_CHOWN | MemoryMax=2G | # The launcher needs these: its control socket, and the kernel's table of sockets. | RestrictAddressFamilies=AF_NETLINK",
			lost: "Delegate",
		},
		{
			name: "capabilities", text: "[Service]\nCapabilityBoundingSet=CAP_CHOWN\nCapabilityBoundingSet=CAP_KILL\n",
			service: "CapabilityBoundingSet= | CapabilityBoundingSet=CAP_CHOWN | CapabilityBoundingSet=CAP_KILL",
		},
		{
			name: "families that are forbidden", text: "[Service]\nRestrictAddressFamilies=~AF_PACKET\n", service: "RestrictAddressFamilies=~AF_PACKET",
		},
		{
			name: "a template's specifiers", old: "claw@my-bot.service", text: "[Service]\nReadWritePaths=/srv/%i /srv/%I %h/%N %%i\nSyslogIdentifier=%p\n",
			service: "ReadWritePaths=/srv/my-bot /srv/my/bot %h/claw@my-bot %%i | SyslogIdentifier=claw",
		},
		{
			name: "a template's bytes", old: `claw@caf\xc3\xa9.service`, text: "[Service]\nReadWritePaths=/srv/%I\n", service: "ReadWritePaths=/srv/café",
		},
		{
			name: "firewall", text: "[Service]\nIPAddressDeny=any\nIPAddressAllow=10.0.0.0/8\n",
			service: "IPAddressDeny=any | IPAddressAllow=10.0.0.0/8", socket: "IPAddressDeny=any | IPAddressAllow=10.0.0.0/8",
		},
		{
			name: "conditions and dependencies", text: "[Unit]\nRequires=postgresql.service\nAfter=postgresql.service\nConditionPathExists=/x\nOnFailure=a@%n.service\nX-Mine=1\n[Service]\nExecCondition=/bin/true\nExecStop=/bin/kill $MAINPID\n[Install]\nAlias=bot.service\n[Nonsense]\nA=b\n",
			unit: "Requires=postgresql.service | After=postgresql.service", lost: "ConditionPathExists OnFailure ExecCondition ExecStop Alias A",
		},
		{
			name: "the last of each counts", text: "[Service]\nKillMode=process\nKillMode=mixed\nType=forking\nType=simple\n",
		},
	} {
		got := Carry(dropins.Assignments([]byte(c.text)), c.old)
		var lost []string
		for _, note := range got.Lost {
			name, _, _ := strings.Cut(note.What, "=")
			lost = append(lost, name)
			if note.Why == "" {
				t.Errorf("%s: no reason for %s", c.name, note.What)
			}
		}
		for what, pair := range map[string][2]string{
			"unit": {strings.Join(got.Unit, " | "), c.unit}, "service": {strings.Join(got.Service, " | "), c.service},
			"socket": {strings.Join(got.Socket, " | "), c.socket}, "lost": {strings.Join(lost, " "), c.lost},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s: %s:\n%s\nwant\n%s", c.name, what, pair[0], pair[1])
			}
		}
	}
}
