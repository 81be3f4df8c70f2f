package peer

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	socket, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	client, err := net.Dial("unix", socket.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	server, err := socket.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	for name, conn := range map[string]net.Conn{"who listens": client, "who connects": server} {
		got, err := Of(conn)
		if err != nil || int(got.Pid) != os.Getpid() || int(got.Uid) != os.Geteuid() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}
