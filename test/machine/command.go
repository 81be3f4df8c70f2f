package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// commandBound ends a command of Run and Output. One that waits for the start of OpenClaw takes more than two minutes on a
// machine that is busy enough.
const commandBound = 5 * time.Minute

// enterScript runs in the machine's PID namespace and everything else of the host's. nsenter has to fork for that namespace
// and stays behind as the parent; this way it stays behind in the test's cgroup: a process that is not in the PID namespace
// shows in the machine as pid 0 in cgroup.procs, which makes systemctl status fail.
const enterScript = `
cgroup=$1 pid=$2; shift 2
echo 0 >"$cgroup/cgroup.procs" || exit
exec nsenter --target "$pid" --mount --uts --ipc --net --cgroup --root --wdns=/ -- "$@"
`

// Command prepares a command in the machine, in / and with a clean environment, as root or as the scope's user. When the
// context ends the command is killed with all its descendants. Its cgroup is /commands/N: like a login's, no unit's.
func (s *Scope) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd, _ := s.command(ctx, name, args...)
	return cmd
}

func (s *Scope) command(ctx context.Context, name string, args ...string) (cmd *exec.Cmd, cgroup string) {
	m := s.machine
	pid := strconv.Itoa(m.pid)
	cgroup = filepath.Join(m.cgroup, commandsCgroup, strconv.FormatInt(m.commands.Add(1), 10))
	argv := []string{"--target", pid, "--pid", "--", "/bin/sh", "-c", enterScript, "sh", cgroup, pid}
	if s.User != "" {
		argv = append(argv, "runuser", "-u", s.User, "--")
	}
	argv = append(append([]string{"nsenter"}, append(argv, name)...), args...)
	if m.noIPv6 {
		argv = withoutIPv6(argv)
	}
	cmd = exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = "/", s.environment()
	if err := os.Mkdir(cgroup, 0o755); err != nil {
		cmd.Err = err
		return cmd, cgroup
	}
	cmd.Cancel = func() error {
		// To kill nsenter would leave its child. And a child that has not entered the cgroup yet must not be missed: it cannot
		// enter when the directory is gone, and has entered when the directory cannot be removed.
		kill := func() error { return os.WriteFile(filepath.Join(cgroup, "cgroup.kill"), []byte("1"), 0) }
		err := kill()
		if os.Remove(cgroup) != nil {
			err = kill()
		}
		return err
	}
	// A descendant that keeps the output open would keep Wait for ever; so it is an error, exec.ErrWaitDelay.
	cmd.WaitDelay = 10 * time.Second
	return cmd, cgroup
}

// Output runs a command and returns its standard output; a failure tells its standard error and its status.
func (s *Scope) Output(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandBound)
	defer cancel()
	cmd, cgroup := s.command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := errors.Join(cmd.Run(), ctx.Err())
	// It stays when the command left something running there; the keeper removes it then.
	_ = os.Remove(cgroup)
	if err != nil {
		err = fmt.Errorf("%s in the machine: %w\nstandard error:\n%s", strings.Join(append([]string{name}, args...), " "), err, stderr.String())
	}
	return stdout.String(), err
}

// Run runs a command, which must succeed, and returns its standard output.
func (s *Scope) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := s.Output(name, args...)
	if err != nil {
		t.Fatalf("%v\nstandard output:\n%s", err, out)
	}
	return out
}
