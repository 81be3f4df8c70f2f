package handoff_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
)

func holdUnix(t *testing.T) handoff.Socket {
	t.Helper()
	held := sockets.HoldUnix(t)
	return handoff.Socket{File: held.File, Address: held.Address}
}

// TestListenOnAPath: every form of listen() that means the path of a held socket takes that; closing it leaves the file
// where it is, and so does a program that removes what it takes for its own.
func TestListenOnAPath(t *testing.T) {
	t.Parallel()
	held, beside := holdUnix(t), hold(t, "127.0.0.1")[0]
	path := held.Address.Path()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	relative, err := filepath.Rel(here, path)
	if err != nil {
		t.Fatal(err)
	}
	directory, name := filepath.Split(path)
	forms := [][]any{
		{path},
		{path, 5},
		{map[string]any{"path": path}},
		{map[string]any{"path": path, "backlog": 5, "exclusive": true, "readableAll": true, "writableAll": true}},
		{relative},
		{directory + "/./" + name},
	}
	w := script(t, "servers.cjs", []handoff.Socket{beside, held}).run(t)
	for i, args := range forms {
		for _, kind := range []string{"net", "http"} {
			id := fmt.Sprintf("%d %s", i, kind)
			w.tell(command{Do: "make", ID: id, Kind: kind}, command{Do: "remove", ID: id, Args: []any{path}})
			w.says("removed")
			w.tell(command{Do: "listen", ID: id, Args: args, Callback: true})
			said := w.says("listening")
			if said.Socket != socketName(t, held.File) {
				w.fatalf("%v listens on %s", args, said.Socket)
			}
			if text := fmt.Sprint(said.Address); !strings.HasSuffix(text, name) {
				w.fatalf("%v: server.address() returns %s", args, text)
			}
			w.says("called")
			w.reported(listening(held.Address))
			w.answered(kind, sockets.Dial(t, held.Address))
			w.tell(command{Do: "close", ID: id})
			w.says("close")
			w.reported(closed(held.Address))
		}
	}
	// The other one is as ever.
	w.tell(command{Do: "make", ID: "tcp", Kind: "http"}, command{Do: "listen", ID: "tcp", Args: []any{beside.Address.Port(), "127.0.0.1"}})
	w.says("listening")
	w.reported(listening(beside.Address))
	w.finish()
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("its file: %v, %v", info, err)
	}
}

// TestListenOnAnotherPath: it is told, for whoever wonders why nobody serves the held one.
func TestListenOnAnotherPath(t *testing.T) {
	t.Parallel()
	held := holdUnix(t)
	w := script(t, "servers.cjs", []handoff.Socket{held}).run(t)
	path := filepath.Join(t.TempDir(), "socket")
	w.tell(command{Do: "make", ID: "1", Kind: "http"}, command{Do: "listen", ID: "1", Args: []any{path}})
	w.says("listening")
	w.reported(handoff.Report{Event: handoff.Listening, Address: netaddr.Unix(path)})
	w.answered("http", sockets.Dial(t, netaddr.Unix(path)))
	w.tell(command{Do: "make", ID: "2", Kind: "http"}, command{Do: "listen", ID: "2", Args: []any{held.Address.Path()}})
	w.says("listening")
	w.reported(listening(held.Address))
	w.tell(command{Do: "make", ID: "3", Kind: "http"}, command{Do: "listen", ID: "3", Args: []any{held.Address.Path()}})
	if said := w.says("error"); said.Code != "EADDRINUSE" {
		w.fatalf("a second server on it: %+v", said)
	}
	w.reported(handoff.Report{Event: handoff.Failed, Address: held.Address, Held: true, Code: "EADDRINUSE"})
	w.finish()
}

func TestClusterOnAPath(t *testing.T) {
	t.Parallel()
	held := holdUnix(t)
	w := script(t, "cluster.cjs", []handoff.Socket{held}, held.Address.Path()).run(t)
	w.says("listening") // both
	w.reported(listening(held.Address))
	for range 4 {
		w.answered("http", sockets.Dial(t, held.Address))
	}
}

// TestListenFDsOnAPath: the form of listen() that names a passed socket by its descriptor.
func TestListenFDsOnAPath(t *testing.T) {
	t.Parallel()
	held := holdUnix(t)
	s := script(t, "servers.cjs", []handoff.Socket{held})
	s.besides = handoff.Free
	w := s.run(t)
	w.reported(handoff.Report{Event: handoff.Loaded})
	w.tell(command{Do: "make", ID: "1", Kind: "http"}, command{Do: "listen", ID: "1", Args: []any{map[string]any{"fd": 3}}})
	w.says("listening")
	w.reported(listening(held.Address))
	w.answered("http", sockets.Dial(t, held.Address))
	w.finish()
}
