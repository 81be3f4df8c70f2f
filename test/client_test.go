package test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/load"
	"openclaw-gateway/test/machine"
)

func tryGet(ctx context.Context, m *machine.Machine, address, path string) (int, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*bound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := m.HTTP().Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

// loops is how many clients connect at the same time.
const loops = 4

// underLoad runs f while clients connect anew for each request, and fails the
// test if one was refused or hung. inFlight is how many may lose an answer that
// a worker was about to give when it was killed; every other one gets a 200.
func underLoad(t *testing.T, m *machine.Machine, address, path string, inFlight int, f func(l *load.Load)) {
	t.Helper()
	l := load.Start(t.Context(), load.Options{URL: "http://" + address + path, Dial: m.DialContext, Loops: loops, Limit: 3 * bound})
	answered(t, l)
	f(l)
	answered(t, l)
	report := l.Stop()
	t.Logf("%s", report)
	if report.Refused > 0 || report.Hung > 0 || len(report.Status) > 0 || report.Lost() > inFlight {
		t.Errorf("want nobody refused or hung, and at most %d answers lost in flight: %s", inFlight, report)
	}
}

// answered waits until further requests have been answered, so that what comes
// next happens to clients that are there.
func answered(t *testing.T, l *load.Load) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*bound)
	defer cancel()
	if err := l.WaitOK(ctx, 20); err != nil {
		t.Fatalf("waiting for answered clients: %v", err)
	}
}

// inodes returns the inode of each listening socket of the machine's port, and
// who holds it, by host pid.
func inodes(t testing.TB, m *machine.Machine) map[string]uint64 {
	t.Helper()
	found := map[string]uint64{}
	err := m.InNet(func() error {
		for _, address := range []string{"0.0.0.0:18789", "[::]:18789"} {
			sockets, err := sockdiag.Listening(netaddr.MustParse(address))
			if err != nil {
				return err
			}
			for _, socket := range sockets {
				found[socket.Address.String()] = socket.Inode
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// holding returns the machine's processes that have the socket open, by the
// pids of the machine.
func holding(t testing.TB, m *machine.Machine, inode uint64) []int {
	t.Helper()
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	var pids []int
	for _, process := range m.Processes(t) {
		folder := filepath.Join("/proc", strconv.Itoa(process.HostPID), "fd")
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // it has ended
		}
		if slices.ContainsFunc(entries, func(entry os.DirEntry) bool {
			target, err := os.Readlink(filepath.Join(folder, entry.Name()))
			return err == nil && target == want
		}) {
			pids = append(pids, process.PID)
		}
	}
	return pids
}

// process finds a process of the machine by the machine's pid.
func process(t testing.TB, m *machine.Machine, pid int) machine.Process {
	t.Helper()
	for _, process := range m.Processes(t) {
		if process.PID == pid {
			return process
		}
	}
	t.Fatalf("no process %d in the machine", pid)
	return machine.Process{}
}

// kill sends SIGKILL to a process of the machine, and returns when it has ended: on a busy machine it may hold what it has for
// a while. A worker, which ends with its launcher, may do so longer.
func kill(t testing.TB, m *machine.Machine, pid int) {
	t.Helper()
	if pid <= 1 {
		t.Fatalf("refusing to kill pid %d", pid)
	}
	ended := handleOf(t, process(t, m, pid))
	m.Run(t, "kill", "-KILL", strconv.Itoa(pid))
	ended.awaitEnd(t)
}

func generationOf(body string) (generation int) {
	_, _ = fmt.Sscanf(strings.TrimSpace(body), "generation %d", &generation)
	return generation
}

// occupy has a foreign process of the machine listen on an address, until free is
// called.
func occupy(t *testing.T, m *machine.Machine, address string) (free func()) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return holder(t, m, "/usr/bin/python3", "-u", "-c",
		"import socket, sys; s = socket.create_server(('"+host+"', "+port+")); print('listening'); sys.stdin.read()")
}

// holder starts a command in the machine that says when it has what it is to have, and lets go of it when its standard input ends.
func holder(t *testing.T, m *machine.Machine, name string, arguments ...string) (free func()) {
	t.Helper()
	holder := m.Command(t.Context(), name, arguments...)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		stdin.Close()
		if err := holder.Wait(); err != nil {
			t.Fatal(err)
		}
	}
}
