package dropins

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units/instance"
)

// place makes the units of a scope with drop-ins, and returns what a manager says that has merged nothing of them yet.
func place(t *testing.T, dropIns map[string]string) (folder string, socket, service systemd.Properties) {
	t.Helper()
	folder = t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const ours = "# Written by \"gateway install\"\n"
	socket = systemd.Properties{
		"Id": instance.Default.Socket(), "LoadState": "loaded", "ActiveState": "active", "Listen": "127.0.0.1:18789 (Stream)\n[::1]:18789 (Stream)", "Accept": "no", "Backlog": "4096",
		"StartLimitIntervalUSec": "0", "StartLimitBurst": "5",
		"FragmentPath": write("etc/"+instance.Default.Socket(), ours+"[Socket]\nListenStream=127.0.0.1:18789\nListenStream=[::1]:18789\nBacklog=4096\nBindIPv6Only=both\n"),
	}
	service = systemd.Properties{
		"Id": instance.Default.Service(), "LoadState": "loaded", "ActiveState": "active", "Type": "notify", "Restart": "always", "RestartUSec": "100000",
		"StartLimitIntervalUSec": "0", "StartLimitBurst": "5", "KillMode": "mixed", "TimeoutStopUSec": "303000000", "TimeoutStartUSec": "18446744073709551615",
		"User": "claw", "DynamicUser": "no", "Delegate": "yes", "ProtectControlGroups": "no", "ExecStart": "/x/gateway\nrun\n--config\n/etc/c.yaml",
		"FragmentPath": write("etc/"+instance.Default.Service(), ours+"[Service]\nUser=claw\nExecStart=/x/gateway run --config \"/etc/c.yaml\"\nTimeoutStopSec=303\n"),
	}
	for name, content := range dropIns {
		path := write(name, content)
		for _, unit := range []systemd.Properties{socket, service} {
			if strings.Contains(name, unit["Id"]+".d/") {
				unit["DropInPaths"] = strings.TrimPrefix(unit["DropInPaths"]+"\n"+path, "\n")
			}
		}
	}
	return folder, socket, service
}

// TestIn: what a drop-in changes is named if it does harm, with its line, and what does none is not.
func TestIn(t *testing.T) {
	t.Parallel()
	service, socket := instance.Default.Service(), instance.Default.Socket()
	for _, test := range []struct {
		unit, dropIn string
		change       systemd.Properties
		want         string // a part of each sentence, "" for none
		broken       bool
	}{
		{service, "[Service]\nEnvironment=A=1\n", nil, "", false},
		{service, "[Service]\nExecStart=\nExecStart=/usr/bin/node /x/openclaw/dist/index.js gateway --token hunter2\n", systemd.Properties{"ExecStart": "/usr/bin/node\n/x/openclaw/dist/index.js\ngateway\n--token\nhunter2"}, "ExecStart= in FILE, a drop-in of openclaw-gateway.service: it starts /usr/bin/node /x/openclaw/dist/index.js gateway --token *** without the launcher", true},
		{service, "[Service]\nExecStart=\nExecStart=/x/gateway run --config /etc/c.yaml\n", nil, "", false},
		{service, "[Service]\nExecStart=\nExecStart=/y/gateway run\n", systemd.Properties{"ExecStart": "/y/gateway\nrun"}, "it starts /y/gateway run, whatever \"gateway install\" writes", false},
		{service, "[Service]\nExecStart=/bin/true\n", systemd.Properties{"LoadState": "bad-setting"}, "systemd does not load openclaw-gateway.service with it (bad-setting)", true},
		{service, "[Service]\nType=simple\n", systemd.Properties{"Type": "simple"}, "Type=simple in FILE", false},
		{service, "[Service]\nRestart=no\n", systemd.Properties{"Restart": "no"}, "does not come back", false},
		{service, "[Service]\nRestartSec = 60\n", systemd.Properties{"RestartUSec": "60000000"}, "RestartSec=60 in FILE, a drop-in of openclaw-gateway.service: when the launcher has ended, clients wait for 1m0s", false},
		{service, "[Service]\nRestartSec=0\n", systemd.Properties{"RestartUSec": "0"}, "", false},
		{service, "[Unit]\nStartLimitBurst=5\nStartLimitIntervalSec=60\n", systemd.Properties{"StartLimitIntervalUSec": "60000000"}, "after 5 starts within 1m0s systemd gives up", false},
		{service, "[Unit]\nStartLimitBurst=5\n", nil, "", false},
		{service, "[Service]\nKillMode=process\n", systemd.Properties{"KillMode": "process"}, "lives on", false},
		{service, "[Service]\nKillMode=control-group\n", systemd.Properties{"KillMode": "control-group"}, "every process of the worker at once", false},
		{service, "[Service]\nTimeoutStopSec=30\n", systemd.Properties{"TimeoutStopUSec": "30000000"}, "a stop kills the worker after 30s", false},
		{service, "[Service]\nTimeoutSec=30\n", systemd.Properties{"TimeoutStopUSec": "30000000", "TimeoutStartUSec": "30000000"}, "a stop kills the worker after 30s|a worker that needs longer than 30s to start", false},
		{service, "[Service]\nTimeoutStopSec=600\n", systemd.Properties{"TimeoutStopUSec": "600000000"}, "", false},
		{service, "[Service]\nUser=gone\n", systemd.Properties{"User": "gone"}, "are user gone, whatever", false},
		{service, "[Service]\nUser=claw\n", nil, "", false},
		{service, "[Service]\nDelegate=no\n", systemd.Properties{"Delegate": "no"}, "may not make control groups", false},
		{service, "[Service]\nProtectControlGroups=true\n", systemd.Properties{"ProtectControlGroups": "yes"}, "ProtectControlGroups=true in FILE", false},
		{service, "[Service]\nRestrictAddressFamilies=AF_INET AF_INET6\n", systemd.Properties{"RestrictAddressFamilies": "AF_INET AF_INET6"}, "may not make its control socket", false},
		{service, "[Service]\nRestrictAddressFamilies=AF_UNIX\n", systemd.Properties{"RestrictAddressFamilies": "AF_UNIX"}, "RestrictAddressFamilies=AF_UNIX in FILE, a drop-in of openclaw-gateway.service: the launcher may not ask the kernel", false},
		{service, "[Service]\nRestrictAddressFamilies=~AF_NETLINK\n", systemd.Properties{"RestrictAddressFamilies": "~AF_NETLINK"}, "may not ask the kernel", false},
		{service, "[Service]\nRestrictAddressFamilies=none\n", systemd.Properties{"RestrictAddressFamilies": "none"}, "may not make its control socket", false},
		{service, "[Service]\nRestrictAddressFamilies=AF_UNIX\n", systemd.Properties{"RestrictAddressFamilies": "AF_INET AF_NETLINK AF_UNIX"}, "", false},
		{service, "[Service]\nRestrictAddressFamilies=~AF_PACKET\n", systemd.Properties{"RestrictAddressFamilies": "~AF_PACKET"}, "", false},
		{service, "[Service]\nRestrictAddressFamilies=\n", systemd.Properties{"RestrictAddressFamilies": ""}, "", false},
		{service, "[Service]\nPrivateNetwork=yes\n", systemd.Properties{"PrivateNetwork": "yes"}, "PrivateNetwork=yes in FILE, a drop-in of openclaw-gateway.service: the launcher does not see who waits", false},
		{service, "[Service]\nPrivateNetwork=no\n", systemd.Properties{"PrivateNetwork": "no"}, "", false},
		{service, "[Service]\nRuntimeMaxSec=1d\n", systemd.Properties{"RuntimeMaxUSec": "86400000000"}, "ends launcher and worker after 24h0m0s", false},
		{service, "[Service]\nRuntimeMaxSec=infinity\n", systemd.Properties{"RuntimeMaxUSec": "18446744073709551615"}, "", false},
		{service, "[Service]\nKillSignal=SIGQUIT\n", systemd.Properties{"KillSignal": "3"}, "KillSignal=SIGQUIT in FILE", false},
		{service, "[Service]\nKillSignal=SIGINT\n", systemd.Properties{"KillSignal": "2"}, "", false},
		{service, "[Service]\nWorkingDirectory=/srv\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "1"}, "", false},
		{service, "[Service]\nWorkingDirectory=/gone\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "200"}, "WorkingDirectory=/gone in FILE", true},
		{service, "[Service]\nRootDirectory=/srv\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "203"}, "the launcher is not in there", true},
		{service, "[Service]\nEnvironmentFile=/gone\n", systemd.Properties{"ExecMainCode": "0", "Result": "resources"}, "systemd cannot read that", true},
		{service, "[Service]\nStandardOutput=file:/gone/x\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "209"}, "systemd cannot open that", true},
		{service, "[Service]\nExecStartPre=/bin/mount -o password=hunter2\n", systemd.Properties{"ExecMainCode": "0", "Result": "exit-code"}, "ExecStartPre= in FILE, a drop-in of openclaw-gateway.service: it fails", true},
		{service, "[Service]\nExecCondition=/bin/false\n", systemd.Properties{"ExecMainCode": "0", "Result": "exec-condition"}, "ExecCondition= in FILE, a drop-in of openclaw-gateway.service: it fails", true},
		{service, "[Service]\nExecStartPre=/bin/true\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "1", "Result": "exit-code"}, "", false},
		{service, "[Service]\nExecStartPost=/bin/false\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "0", "Result": "exit-code"}, "ExecStartPost= in FILE, a drop-in of openclaw-gateway.service: it fails", true},
		{service, "[Service]\nExecStartPost=/bin/true\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "1", "Result": "exit-code"}, "", false},
		{service, "[Unit]\nRequires=db.service\nAfter=db.service\n", systemd.Properties{"ActiveState": "inactive", "Lacks": "openclaw-gateway.socket (failed)\ndb.service (failed)"}, "Requires=db.service in FILE, a drop-in of openclaw-gateway.service: systemd does not start openclaw-gateway.service without db.service (failed)", true},
		{service, "[Unit]\nBindsTo=nope.service\n", systemd.Properties{"ActiveState": "inactive", "Lacks": "nope.service (not-found)"}, "BindsTo=nope.service in FILE", true},
		{service, "[Unit]\nRequires=db.service\n", systemd.Properties{"ActiveState": "inactive", "Lacks": "openclaw-gateway.socket (failed)"}, "", false},
		{socket, "[Unit]\nRequisite=db.service\n", systemd.Properties{"ActiveState": "inactive", "Lacks": "db.service (inactive)"}, "Requisite=db.service in FILE, a drop-in of openclaw-gateway.socket: systemd does not start openclaw-gateway.socket without db.service (inactive)", true},
		{service, "[Service]\nBindPaths=/gone\n", systemd.Properties{"ExecMainCode": "1", "ExecMainStatus": "226"}, "BindPaths=/gone in FILE", true},
		{service, "[Service]\nSystemCallFilter=read\n", systemd.Properties{"ExecMainCode": "3", "ExecMainStatus": "31"}, "needs a system call that it forbids", true},
		{service, "[Unit]\nConditionUser=nobody\n", systemd.Properties{"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestampMonotonic": "1"}, "ConditionUser=nobody in FILE, a drop-in of openclaw-gateway.service: it does not hold", true},
		{service, "[Unit]\nConditionUser=nobody\n", systemd.Properties{"ActiveState": "inactive", "ConditionResult": "no", "ConditionTimestampMonotonic": "0"}, "", false},
		{socket, "[Unit]\nAssertHost=other\n", systemd.Properties{"ActiveState": "inactive", "AssertResult": "no", "ConditionTimestampMonotonic": "1"}, "AssertHost=other in FILE", true},
		{socket, "[Socket]\nService=other.service\n", systemd.Properties{"Triggers": "other.service"}, "clients start other.service, and not the launcher", true},
		{socket, "[Socket]\nBindToDevice=eth7\n", systemd.Properties{"BindToDevice": "eth7", "ActiveState": "failed", "Result": "resources"}, "if there is no such device", true},
		{socket, "[Socket]\nBindToDevice=eth7\n", systemd.Properties{"BindToDevice": "eth7", "Result": "success"}, "", false},
		{socket, "[Socket]\nExecStartPost=/bin/false\n", systemd.Properties{"ActiveState": "failed", "Result": "exit-code"}, "ExecStartPost= in FILE", true},
		{socket, "[Socket]\nFlushPending=yes\n", systemd.Properties{"FlushPending": "yes"}, "who waits while the launcher restarts is dropped", false},
		{socket, "[Socket]\nTriggerLimitBurst=1\nTriggerLimitIntervalSec=600\n", systemd.Properties{"TriggerLimitIntervalUSec": "600000000", "TriggerLimitBurst": "1"}, "when clients have started the launcher more than 1 time within 10m0s, systemd closes the port", false},
		{socket, "[Socket]\nTriggerLimitBurst=1\n", systemd.Properties{"TriggerLimitIntervalUSec": "0", "TriggerLimitBurst": "1"}, "", false},
		{socket, "[Socket]\nTriggerLimitIntervalSec=600\n", systemd.Properties{"TriggerLimitIntervalUSec": "600000000", "TriggerLimitBurst": "20", "ActiveState": "failed", "Result": "trigger-limit-hit"}, "systemd has closed the port", true},
		{socket, "[Socket]\nListenMessageQueue=/queue\n", systemd.Properties{"Listen": "127.0.0.1:18789 (Stream)\n[::1]:18789 (Stream)\n/queue (MessageQueue)"}, "/queue (MessageQueue) is opened too", false},
		{socket, "[Socket]\nListenStream=0.0.0.0:18790\n", systemd.Properties{"Listen": "127.0.0.1:18789 (Stream)\n[::1]:18789 (Stream)\n0.0.0.0:18790 (Stream)"}, "0.0.0.0:18790 is opened too", false},
		{socket, "[Socket]\nListenStream=\nListenStream=127.0.0.1:18789\n", systemd.Properties{"Listen": "127.0.0.1:18789 (Stream)"}, "[::1]:18789 is not opened", false},
		{socket, "[Socket]\nAccept=yes\n", systemd.Properties{"Accept": "yes"}, "a service for each client", true},
		{socket, "[Socket]\nBacklog=20000\n", systemd.Properties{"Backlog": "20000"}, "", false},
		{socket, "[Socket]\nBindIPv6Only=ipv6-only\n", systemd.Properties{"BindIPv6Only": "ipv6-only"}, "IPv4 clients are refused", false},
		{socket, "[Socket]\nBindIPv6Only=default\n", systemd.Properties{"BindIPv6Only": "default"}, "", false},
		{socket, "[Socket]\nBacklog=16\n", systemd.Properties{"Backlog": "16"}, "no more than 16 clients can wait", false},
		{socket, "# Accept=yes\n[Socket]\n;Accept=yes\n", systemd.Properties{"Accept": "yes"}, "", false},
	} {
		file := "etc/" + test.unit + ".d/x.conf"
		folder, socketNow, serviceNow := place(t, map[string]string{file: test.dropIn})
		now := map[string]systemd.Properties{socket: socketNow, service: serviceNow}[test.unit]
		for name, value := range test.change {
			now[name] = value
		}
		found := In([]systemd.Properties{socketNow, serviceNow})
		var sentences []string
		broken := false
		for _, o := range found {
			sentences, broken = append(sentences, strings.ReplaceAll(o.String(), filepath.Join(folder, file), "FILE")), broken || o.Broken
		}
		want := strings.Split(test.want, "|")
		if test.want == "" {
			want = nil
		}
		ok := len(want) == len(sentences) && broken == test.broken
		for i := range want {
			ok = ok && strings.Contains(sentences[i], want[i])
		}
		if !ok {
			t.Errorf("%q: %q (broken: %t), want %q", test.dropIn, sentences, broken, want)
		}
	}
}

// TestMend: the command takes the lines out, and nothing else, wherever the drop-in is.
func TestMend(t *testing.T) {
	t.Parallel()
	own, other := "etc/"+instance.Default.Service()+".d/x.conf", "run/"+instance.Default.Service()+".d/y.conf"
	folder, socket, service := place(t, map[string]string{
		own:   "[Service]\nEnvironment=A=1\nExecStart=\n ExecStart = /usr/bin/node \\\n  /x/openclaw/dist/index.js \\\n  gateway\nEnvironment=B=2\n",
		other: "[Service]\nRestartSec=60\nEnvironment=C=3\n",
	})
	service["ExecStart"], service["RestartUSec"] = "/usr/bin/node\n/x/openclaw/dist/index.js\ngateway", "60000000"
	command := Mend(systemd.Manager{}, 0, In([]systemd.Properties{socket, service}))
	edits, restart, _ := strings.Cut(command, " && systemctl daemon-reload")
	if restart != " && systemctl restart openclaw-gateway.service" {
		t.Errorf("the command ends with %q", restart)
	}
	if output, err := exec.Command("/bin/sh", "-c", edits).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", edits, err, output)
	}
	for name, want := range map[string]string{
		own:          "[Service]\nEnvironment=A=1\n#ExecStart=\n# ExecStart = /usr/bin/node \\\n#  /x/openclaw/dist/index.js \\\n#  gateway\nEnvironment=B=2\n",
		own + ".bak": "[Service]\nEnvironment=A=1\nExecStart=\n ExecStart = /usr/bin/node \\\n  /x/openclaw/dist/index.js \\\n  gateway\nEnvironment=B=2\n",
		other:        "[Service]\nRestartSec=60\nEnvironment=C=3\n",
		"etc/" + instance.Default.Service() + ".d/y.conf": "[Service]\n#RestartSec=60\nEnvironment=C=3\n",
	} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || string(content) != want {
			t.Errorf("%s is %q, %v; want %q", name, content, err, want)
		}
	}
}
