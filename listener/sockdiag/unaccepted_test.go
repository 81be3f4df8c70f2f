package sockdiag

import (
	"net"
	"testing"

	"openclaw-gateway/netaddr"
)

// TestUnaccepted: only a connection that nobody has accepted counts as waiting. One that the server has answered and
// closed has no inode either, for a minute.
func TestUnaccepted(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		server, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		check := func(what string, conn net.Conn, want bool) {
			t.Helper()
			got, err := Unaccepted(netaddr.Of(conn.RemoteAddr()), netaddr.Of(conn.LocalAddr()))
			if err != nil || got != want {
				t.Errorf("%s on %s: unaccepted: %t, %v; want %t", what, address, got, err, want)
			}
		}
		connect := func() net.Conn {
			t.Helper()
			conn, err := net.Dial("tcp", server.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}
		accept := func() net.Conn {
			t.Helper()
			conn, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return conn
		}

		conn, other := connect(), connect()
		check("not accepted", conn, true)
		served := accept()
		check("accepted", conn, false)
		check("behind the accepted one", other, true)
		served.Close()
		check("closed by the server", conn, false)
		conn.Close()
		check("closed by the server, then by the client", conn, false)
		accept().Close()
		other.Close()

		conn = connect()
		conn.Close()
		check("given up by the client", conn, true)
		served = accept()
		check("given up by the client, then accepted", conn, false)
		served.Close()
		check("given up by the client, accepted and closed", conn, false)
	}
}
