package machine

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// lifeline is the test's end of its keeper.
type lifeline struct {
	keeper *exec.Cmd
	stdin  io.WriteCloser // the machine lives until it closes
	start  *os.File       // one byte lets PID 1 go on from its mounts to systemd
	lines  chan string    // what keeper and PID 1 say: "cgroup DIR", "pid N", "mounted", or what went wrong
}

// startKeeper executes the test binary again. The keeper's standard error is the console: what a runtime says there is for
// people, what it says by itself comes as a line.
func startKeeper(p *plan, console *os.File) (*lifeline, error) {
	arg, err := p.marshal()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	startR, startW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer startR.Close()
	// Not StdoutPipe, which Wait would close before the last line is read.
	statusR, statusW, err := os.Pipe()
	if err != nil {
		startW.Close()
		return nil, err
	}
	defer statusW.Close()
	l := &lifeline{start: startW, lines: make(chan string, 16)}
	l.keeper = &exec.Cmd{
		Path:       self,
		Args:       []string{self, keeperRole, arg},
		Env:        selfEnv(),
		Stdout:     statusW,
		Stderr:     console,
		ExtraFiles: []*os.File{startR},
		// A terminal's ^C goes to the whole foreground group, and the keeper must outlive the test binary.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if l.stdin, err = l.keeper.StdinPipe(); err == nil {
		err = l.keeper.Start()
	}
	if err != nil {
		startW.Close()
		statusR.Close()
		return nil, fmt.Errorf("start the keeper: %w", err)
	}
	go func() {
		defer statusR.Close()
		defer close(l.lines)
		for scanner := bufio.NewScanner(statusR); scanner.Scan(); {
			l.lines <- scanner.Text()
		}
	}()
	return l, nil
}

// awaitMounts returns when the machine can be prepared, and completes m.
func (l *lifeline) awaitMounts(m *Machine, bound time.Duration) error {
	end := time.After(bound)
	// The keeper and PID 1 write to the same pipe: their order is open.
	for mounted := false; !mounted || m.pid == 0; {
		var line string
		select {
		case line = <-l.lines:
		case <-end:
			return fmt.Errorf("still not done after %v", bound)
		}
		word, rest, _ := strings.Cut(line, " ")
		switch word {
		case "cgroup":
			m.cgroup = rest
		case "pid":
			if _, err := fmt.Sscan(rest, &m.pid); err != nil {
				return fmt.Errorf("pid %q of the machine: %w", rest, err)
			}
		case "mounted":
			mounted = true
		default:
			return errors.New(line)
		}
	}
	return nil
}

// release starts systemd and waits until its start-up is finished.
func (l *lifeline) release(notify *net.UnixConn, bound time.Duration) error {
	if err := notify.SetReadDeadline(time.Now().Add(bound)); err != nil {
		return err
	}
	if _, err := l.start.Write([]byte{1}); err != nil {
		return err
	}
	ready := make(chan error, 1)
	go func() { ready <- awaitReady(notify) }()
	select {
	case err := <-ready:
		return err
	case line := <-l.lines:
		return errors.New(line)
	}
}

// awaitReady reads READY=1, which systemd as PID 1 of a container sends when it has started its default target: systemd(1),
// NOTIFY_SOCKET.
func awaitReady(notify *net.UnixConn) error {
	var seen []string
	message := make([]byte, 4096)
	for {
		n, err := notify.Read(message)
		if err != nil {
			return fmt.Errorf("systemd sent no READY=1, only %q: %w", seen, err)
		}
		said := string(message[:n])
		if slices.Contains(strings.Split(said, "\n"), "READY=1") {
			return nil
		}
		seen = append(seen, said)
	}
}

// end closes the lifeline and waits until the keeper has removed the machine.
func (l *lifeline) end() error {
	l.stdin.Close()
	l.start.Close()
	gone := make(chan error, 1)
	go func() { gone <- l.keeper.Wait() }()
	select {
	case err := <-gone:
		if err == nil {
			return nil
		}
		said := []string{}
		for line := range l.lines {
			said = append(said, line)
		}
		return fmt.Errorf("keeper: %w: %s", err, strings.Join(said, "; "))
	case <-time.After(tearDownBound):
		return fmt.Errorf("keeper, pid %d, still busy after %v: look below its cgroup directory for what does not die",
			l.keeper.Process.Pid, tearDownBound)
	}
}
