package launcher

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/test/wait"
)

// configKey makes the test binary a launcher with this configuration.
const configKey = "LAUNCHER_TEST_CONFIG"

func TestMain(m *testing.M) {
	path := os.Getenv(configKey)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := Run(context.Background(), Options{Config: path}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestSignalAtTheEnd: none kills a launcher that is about to end; this one waits for somebody who asks something.
func TestSignalAtTheEnd(t *testing.T) {
	t.Parallel()
	directory := t.TempDir()
	launcher := sockets.AtFreePort(t, "127.0.0.1", func(address netaddr.Address) (*exec.Cmd, error) {
		path := filepath.Join(directory, "config.yaml")
		if err := os.WriteFile(path, fmt.Appendf(nil, "listen: [%q]\n", address), 0o600); err != nil {
			return nil, err
		}
		launcher := exec.CommandContext(t.Context(), "/proc/self/exe")
		launcher.Env = append(os.Environ(), configKey+"="+path, "RUNTIME_DIRECTORY="+directory)
		launcher.Stderr = t.Output()
		output, err := launcher.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := launcher.Start(); err != nil {
			return nil, err
		}
		// It is there when it says where.
		if _, err = bufio.NewReader(output).ReadString('\n'); err != nil {
			_ = launcher.Wait()
		}
		return launcher, err
	})
	control := filepath.Join(directory, api.ControlSocket)
	asker, err := net.Dial("unix", control)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	if _, err := fmt.Fprint(asker, "POST /check HTTP/1.1\r\nHost: launcher\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	// It is being answered when the launcher wants to read the rest.
	if _, err := bufio.NewReader(asker).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	end := func(signal unix.Signal) {
		if err := launcher.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
	}
	end(unix.SIGTERM)
	wait.Within(t, 30*time.Second, "the control socket closes", func() error {
		for {
			conn, err := net.Dial("unix", control)
			if err != nil {
				return nil
			}
			_ = conn.Close()
		}
	})
	end(unix.SIGHUP)
	end(unix.SIGTERM)
	if err := launcher.Wait(); err != nil {
		t.Errorf("the launcher ended with %v", err)
	}
}
