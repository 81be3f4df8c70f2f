package units

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/netaddr"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

var loopback = []netaddr.Address{
	netaddr.MustParse("127.0.0.1:18789"),
	netaddr.MustParse("[::1]:18789"),
}

// cases are rendered into the golden files of their name, and verified by systemd.
var cases = map[string]Params{
	"system": {
		Scope: System, Executable: "/usr/local/bin/gateway", Listen: loopback, StopTimeout: 327 * time.Second,
	},
	"system-run-as": {
		Scope: System, Executable: "/usr/local/bin/gateway", Config: "/etc/openclaw-gateway/config.yaml",
		RunAs: "daemon", Listen: loopback, StopTimeout: 327 * time.Second,
	},
	"user": {
		Scope: User, Executable: "/home/alice/bin/gateway", Listen: loopback, StopTimeout: 25 * time.Second,
	},
	"system-hardened": {
		Scope: System, Executable: "/usr/local/bin/gateway", RunAs: "daemon", Listen: loopback, StopTimeout: 327 * time.Second,
		Hardened: true, Home: `/var/lib/100 %h "a";`, Writable: []string{"/srv/app", "/tmp/", "/"},
	},
	"user-hardened": {
		Scope: User, Executable: "/home/alice/bin/gateway", Listen: loopback, StopTimeout: 25 * time.Second, Hardened: true,
	},
	"addresses": {
		Scope: System, Executable: "/usr/local/bin/gateway", StopTimeout: 1500 * time.Millisecond,
		Listen: []netaddr.Address{
			netaddr.MustParse("0.0.0.0:80"),
			netaddr.MustParse("[::]:80"),
			netaddr.MustParse("[2001:db8::1]:8080"),
		},
	},
	"dual-stack": {
		Scope: System, Executable: "/usr/local/bin/gateway", StopTimeout: time.Second, DualStack: true,
		Listen: []netaddr.Address{
			netaddr.MustParse("[::]:80"),
			netaddr.MustParse("[::1]:8080"),
			netaddr.MustParse("0.0.0.0:8081"),
		},
	},
	"named": {
		Name: "work", Scope: User, Executable: "/home/alice/bin/gateway", Config: "/home/alice/work.yaml", Listen: loopback, StopTimeout: 25 * time.Second,
	},
	"unix": {
		Scope: System, Executable: "/usr/local/bin/gateway", RunAs: "claw", StopTimeout: time.Second,
		Listen: []netaddr.Address{netaddr.MustParse("127.0.0.1:80"), netaddr.Unix("/run/app.sock"), netaddr.Unix(`/run/a b%h$x".sock`), netaddr.Unix("/run/root.sock")},
		Access: map[netaddr.Address]netaddr.Access{
			netaddr.Unix(`/run/a b%h$x".sock`): {Mode: "0660", Group: "www-data"},
			netaddr.Unix("/run/root.sock"):     {User: "root"},
		},
	},
	"unix-user": {
		Scope: User, Executable: "/home/alice/bin/gateway", StopTimeout: time.Second,
		Listen: []netaddr.Address{netaddr.Unix("/run/user/1000/app.sock"), netaddr.Unix("/home/alice/app.sock")},
		Access: map[netaddr.Address]netaddr.Access{netaddr.Unix("/home/alice/app.sock"): {Mode: "0666"}},
	},
	"odd-paths": {
		Scope: User, Executable: `/opt/100 %n; odd/gateway`, Config: `/opt/"a" b;/it's\n/$HOME/%h/config.yaml`,
		Listen: loopback, StopTimeout: 0,
	},
}

func TestRenderGolden(t *testing.T) {
	for name, params := range cases {
		t.Run(name, func(t *testing.T) {
			files, err := Render(params)
			if err != nil {
				t.Fatal(err)
			}
			if len(files) != 2 || files[0].Name != params.Name.Socket() || files[1].Name != params.Name.Service() {
				t.Fatalf("rendered %d files, want the socket, then the service", len(files))
			}
			for _, file := range files {
				golden := filepath.Join("testdata", name+filepath.Ext(file.Name))
				if *update {
					if err := os.WriteFile(golden, file.Content, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(file.Content)); diff != "" {
					t.Errorf("%s (-golden +rendered):\n%s", golden, diff)
				}
			}
		})
	}
}

// TestVerify asks systemd itself. A stub stands in for the program, because verify looks whether it is there: so this
// also shows that systemd reads the quoted path as it was meant.
func TestVerify(t *testing.T) {
	for name, params := range cases {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			params.Executable = filepath.Join(base, params.Executable)
			if err := os.MkdirAll(filepath.Dir(params.Executable), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(params.Executable, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			files, err := Render(params)
			if err != nil {
				t.Fatal(err)
			}
			if said := verify(t, params.Scope, files); said != "" {
				t.Errorf("systemd-analyze verify: %s", said)
			}
			for i := range files {
				broken := append([]File(nil), files...)
				broken[i].Content = append(bytes.Clone(files[i].Content), "NoSuchSetting=1\n"...)
				if verify(t, params.Scope, broken) == "" {
					t.Errorf("systemd-analyze verify accepts an unknown setting in %s: this test cannot fail", files[i].Name)
				}
			}
		})
	}
}

func verify(t *testing.T, scope Scope, files []File) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"--" + string(scope), "--man=no", "verify"}
	for _, file := range files {
		path := filepath.Join(dir, file.Name)
		if err := os.WriteFile(path, file.Content, 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	cmd := exec.Command("systemd-analyze", args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
	said, err := cmd.CombinedOutput()
	if err != nil && len(said) == 0 {
		t.Fatalf("systemd-analyze: %v", err)
	}
	return string(said)
}

func TestRenderRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*Params)
		want   string
	}{
		"no scope":                   {func(p *Params) { p.Scope = "" }, `unknown scope ""`},
		"relative program":           {func(p *Params) { p.Executable = "bin/gateway" }, "not absolute"},
		"program OpenClaw would hit": {func(p *Params) { p.Executable = "/opt/OpenClaw-gw" }, "rename it"},
		"line break in program":      {func(p *Params) { p.Executable = "/opt/a\nUser=root/gateway" }, "cannot hold"},
		"dollar in program":          {func(p *Params) { p.Executable = "/opt/$x/gateway" }, "dollar"},
		"quote in program":           {func(p *Params) { p.Executable = `/opt/"x"/gateway` }, "quote"},
		"program not UTF-8":          {func(p *Params) { p.Executable = "/opt/\xff/gateway" }, "cannot hold"},
		"relative config":            {func(p *Params) { p.Config = "config.yaml" }, "not absolute"},
		"line break in config":       {func(p *Params) { p.Config = "/etc/a\nExecStartPre=/bin/sh" }, "cannot hold"},
		"line break in user":         {func(p *Params) { p.RunAs = "alice\nGroup=root" }, "not a user name"},
		"specifier as user":          {func(p *Params) { p.RunAs = "%i" }, "not a user name"},
		"run as in user scope":       {func(p *Params) { p.Scope, p.RunAs = User, "alice" }, "somebody else"},
		"nothing to listen on":       {func(p *Params) { p.Listen = nil }, `set "listen"`},
		"no port":                    {func(p *Params) { p.Listen = addresses("127.0.0.1:0") }, "give an address and a port"},
		"zero address":               {func(p *Params) { p.Listen = make([]netaddr.Address, 1) }, "give an address and a port"},
		"twice the same":             {func(p *Params) { p.Listen = addresses("[::1]:1", "[::1]:1") }, "twice"},
		"IPv4 in IPv6":               {func(p *Params) { p.Listen = addresses("[::ffff:127.0.0.1]:1") }, "write it as 127.0.0.1:1"},
		"with a zone":                {func(p *Params) { p.Listen = addresses("[fe80::1%a\nb]:1") }, "listen on [::]:1"},
		"hardened, nobody's home":    {func(p *Params) { p.Hardened = true }, "home directory"},
		"line break in home":         {func(p *Params) { p.Hardened, p.Home = true, "/home/a\nUser=root" }, "cannot hold"},
		"relative home":              {func(p *Params) { p.Hardened, p.Home = true, "home/a" }, "not absolute"},
		"relative place to write":    {func(p *Params) { p.Hardened, p.Home, p.Writable = true, "/root", []string{"srv"} }, "not absolute"},
		"negative stop timeout":      {func(p *Params) { p.StopTimeout = -time.Second }, "negative"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			params := cases["system"]
			test.change(&params)
			files, err := Render(params)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want one with %q", err, test.want)
			}
			if files != nil {
				t.Errorf("rendered %d files beside the error", len(files))
			}
		})
	}
}

func addresses(texts ...string) []netaddr.Address {
	var list []netaddr.Address
	for _, text := range texts {
		list = append(list, netaddr.MustParse(text))
	}
	return list
}
