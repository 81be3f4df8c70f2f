package holders

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/test/wait"
)

// TestPM2: the command names the PM2 that its user has, where a PATH does not lead to it, and the home that its daemon has.
func TestPM2(t *testing.T) {
	folder, plain := t.TempDir(), t.TempDir()
	node, module := filepath.Join(folder, "bin/node"), filepath.Join(folder, "npm/pm2")
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{node, module} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, program, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	start := func(t *testing.T, environment, title string) int {
		cmd := &exec.Cmd{Path: node, Args: []string{title}, Env: []string{environment}}
		in, inErr := cmd.StdinPipe()
		out, outErr := cmd.StdoutPipe()
		if err := errors.Join(inErr, outErr, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		// What it gives back shows that execve(2) is over, and with it that its command line is there.
		wait.Within(t, 10*time.Second, "what it was told", func() error {
			if _, err := in.Write([]byte("x")); err != nil {
				return err
			}
			_, err := out.Read(make([]byte, 1))
			return err
		})
		return cmd.Process.Pid
	}
	app := start(t, "pm_id=3", "node")
	for name, test := range map[string]struct{ home, path, own, want string }{
		"in its PATH":            {filepath.Join(systemd.HomeOf(os.Getuid()), ".pm2"), "/nowhere:" + filepath.Dir(module), plain, node + " " + module + " delete 3"},
		"of an upgraded Node.js": {"", filepath.Dir(module), plain, node + " " + module + " delete 3"},
		"of a home of its own":   {"/srv/my pm2", "", plain, "env 'PM2_HOME=/srv/my pm2' pm2 delete 3"},
		"in the caller's, too":   {"/srv/pm2", filepath.Dir(module), filepath.Dir(module), "env PM2_HOME=/srv/pm2 pm2 delete 3"},
		"below no whole path":    {"x", "npm", plain, "pm2 delete 3"},
		"beside its Node.js":     {"/srv/pm2", filepath.Dir(module), plain, "env PM2_HOME=/srv/pm2 " + node + " " + filepath.Join(filepath.Dir(node), "pm2") + " delete 3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", test.own)
			t.Chdir(folder)
			if beside := filepath.Join(filepath.Dir(node), "pm2"); name == "beside its Node.js" {
				if err := os.WriteFile(beside, nil, 0o755); err != nil {
					t.Fatal(err)
				}
				defer os.Remove(beside)
			}
			h := &Holder{}
			h.PID, h.PPID = app, start(t, "PATH="+test.path, fmt.Sprintf("PM2 v7.0.4: God Daemon (%s)", test.home))
			if name == "of an upgraded Node.js" {
				if err := errors.Join(os.WriteFile(node+".new", program, 0o755), os.Rename(node+".new", node)); err != nil {
					t.Fatal(err)
				}
			}
			r := restarterOf(h)
			if r == nil || r.What != "PM2" {
				t.Fatalf("%+v", r)
			}
			if got := r.Stop(Asker{UID: os.Getuid()}); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestSetuid: who has started a program that is setuid root has chosen its command line and its folder, so that it is no supervisor
// of root's.
func TestSetuid(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for mode, want := range map[string]string{hold: "sv down /", setuid: "runuser --pty -u nobody -- env XDG_RUNTIME_DIR=/run/user/65534 sv down /"} {
		cmd := child(mode, "runsv", "claw")
		end := startHolderAs(t, l.(*net.TCPListener), cmd)
		h := Holder{}
		h.PPID = cmd.Process.Pid
		switch r := restarterOf(&h); {
		case r == nil:
			t.Errorf("%s: no restarter is found", mode)
		case r.Stop(Asker{Program: "gateway"}) != want || strings.Contains(r.String(), "root") != (mode == hold):
			t.Errorf("%s: %s `%s`, want `%s`", mode, r, r.Stop(Asker{Program: "gateway"}), want)
		}
		end()
	}
}
