package holders

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/worker/proctree"
)

// The test binary is its own child: TestMain looks here for what it is to do.
const (
	childKey = "HOLDERS_TEST_CHILD"
	setuid   = "setuid" // does the same as a setuid program of root's that nobody has started
	hold     = "hold"   // keeps descriptor 3 until its standard input ends
	launch   = "launch" // does the same, with a worker that has its mark, and its third word for an entry file
	report   = "report" // prints what it sees of HOLDERS_TEST_INODE and HOLDERS_TEST_ADDRESS as JSON

	nobody = 65534
)

type seen struct {
	Processes []Holder
	Unseen    int
	Sentence  string
	Denied    bool // it may not look into the process HOLDERS_TEST_PID
}

func TestMain(m *testing.M) {
	switch os.Getenv(childKey) {
	case setuid:
		if err := syscall.Setresuid(nobody, 0, 0); err != nil {
			panic(err)
		}
		fallthrough
	case hold:
		os.Stdout.WriteString("here\n")
		io.Copy(io.Discard, os.Stdin)
	case launch:
		if err := launchWorker(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case report:
		if err := reportSeen(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func launchWorker() error {
	self, err := proctree.Find(os.Getpid())
	if err != nil {
		return err
	}
	worker := child(hold, append([]string{"node"}, os.Args[2], "gateway")...)
	worker.Env = append(worker.Env, proctree.MarkKey+"="+proctree.Mark{Directory: "/x", Launcher: self}.String())
	worker.ExtraFiles, worker.Stdin, worker.Stdout = []*os.File{os.NewFile(3, "socket")}, os.Stdin, os.Stdout
	if err := worker.Start(); err != nil {
		return err
	}
	return worker.Wait()
}

func reportSeen() error {
	inode, err := strconv.ParseUint(os.Getenv("HOLDERS_TEST_INODE"), 10, 64)
	if err != nil {
		return err
	}
	addr, err := netaddr.Parse(os.Getenv("HOLDERS_TEST_ADDRESS"))
	if err != nil {
		return err
	}
	byInode, unseen, err := open(context.Background(), []uint64{inode})
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(os.Getenv("HOLDERS_TEST_PID"))
	if err != nil {
		return err
	}
	_, err = sockdiag.Descriptors(context.Background(), pid, nil)
	return json.NewEncoder(os.Stdout).Encode(seen{byInode[inode], unseen, InUse(context.Background(), addr), errors.Is(err, fs.ErrPermission)})
}

// child prepares the test binary to run again. /proc/self/exe, because another user cannot pass through the directory in
// which `go test` puts it.
func child(mode string, argv ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = argv
	// The race detector sleeps for a second at the end of a process, and several tests wait for the child's.
	cmd.Env = append(os.Environ(), childKey+"="+mode, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.Dir = "/"
	return cmd
}

// startHolder starts a child that inherits the listener, and returns it with what ends it and waits for it.
func startHolder(t *testing.T, l *net.TCPListener, argv ...string) (*exec.Cmd, func()) {
	t.Helper()
	cmd := child(hold, argv...)
	return cmd, startHolderAs(t, l, cmd)
}

func startHolderAs(t *testing.T, l *net.TCPListener, cmd *exec.Cmd) func() {
	t.Helper()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func() {
		if !ended {
			ended = true
			stdin.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("the child that holds the listener: %v", err)
			}
		}
	}
	t.Cleanup(end)
	// From then on it is what its command line says.
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return end
}

// unprivileged makes cmd run as a user who may not look into this process or PID 1. Who is not root is one already.
func unprivileged(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
}
