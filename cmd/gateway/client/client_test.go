package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/fixtures"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// TestSilentLauncher: one that accepts and says nothing costs no more than the
// bound.
func TestSilentLauncher(t *testing.T) {
	path := filepath.Join(t.TempDir(), api.ControlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*AnswerLimit)
	defer cancel()
	err = Target{Control: path}.Ask(ctx, "/status", new(api.Status))
	if !errors.Is(err, ErrSilent) || ctx.Err() != nil || !strings.Contains(err.Error(), path) {
		t.Errorf("asking it: %v", err)
	}
}

// TestOlderLauncher is not asked for the holders of its sockets.
func TestOlderLauncher(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), api.ControlSocket)
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	older := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var s api.Status
		if r.URL.Query().Get("holders") != "no" {
			s.Notes = []string{"a process could not be looked into"}
		}
		_ = json.NewEncoder(w).Encode(s)
	})}
	go func() { _ = older.Serve(socket) }()
	defer older.Close()
	if s, err := (Target{Control: path}).Status(t.Context()); err != nil || len(s.Notes) > 0 {
		t.Errorf("its status is %+v, %v", s, err)
	}
}

// TestStranger: before a byte is sent it is known that the directory, and whoever listens there, are of the user whose launcher
// is meant: anybody can make a directory in /tmp.
func TestStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	const mallory = 65534
	listen := func(path string, uid int) (socket net.Listener) {
		var err error
		fixtures.As(t, uid, func() { socket, err = net.Listen("unix", path) })
		if err != nil {
			t.Fatal(err)
		}
		return socket
	}
	for name, test := range map[string]struct {
		spoil  func(directory string) error // what else is wrong with a directory of root's
		uid    int                          // who listens
		target Target
		want   string // "": it is asked
	}{
		"ours":                          {target: Target{}},
		"the system's":                  {target: Target{Scope: units.System}},
		"root's for mallory":            {target: Target{UID: mallory}, want: "of user root"},
		"mallory's for root":            {spoil: owned(mallory), uid: mallory, want: "is not a directory that only user root can write to"},
		"mallory's":                     {spoil: owned(mallory), uid: mallory, target: Target{UID: mallory}},
		"mallory's, run by root":        {spoil: owned(mallory), target: Target{UID: mallory}},
		"the system's, as mallory":      {spoil: owned(mallory), uid: mallory, target: Target{Scope: units.System}},
		"mallory in root's directory":   {spoil: mode(0o755), uid: mallory, want: "a process of user nobody listens on "},
		"mallory in the system's":       {spoil: mode(0o755), uid: mallory, target: Target{Scope: units.System}, want: "and not one of user root"},
		"everybody can write":           {spoil: mode(0o777), want: "is not a directory"},
		"a group can write":             {spoil: mode(0o770), target: Target{Scope: units.System}, want: "is not a directory"},
		"a link to a directory":         {spoil: linked, want: "is a link"},
		"a link to a socket":            {spoil: linkedSocket, want: "is no socket"},
		"a link to a socket, in system": {spoil: linkedSocket, target: Target{Scope: units.System}, want: "is no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			// Not t.TempDir, which other users cannot enter.
			above, err := os.MkdirTemp("", "stranger")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(above)
			directory := filepath.Join(above, "openclaw-gateway")
			path := filepath.Join(directory, api.ControlSocket)
			if err := errors.Join(os.Chmod(above, 0o755), os.Mkdir(directory, 0o777), os.Chmod(directory, 0o777)); err != nil {
				t.Fatal(err)
			}
			socket := listen(path, test.uid)
			defer socket.Close()
			heard := make(chan string)
			go func() {
				defer close(heard)
				conn, err := socket.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				first := make([]byte, 1000)
				n, _ := conn.Read(first)
				heard <- string(first[:n])
				_, _ = io.WriteString(conn, "HTTP/1.0 200 OK\r\n\r\n{}")
			}()
			spoil := test.spoil
			if spoil == nil {
				spoil = mode(0o700)
			}
			if err := errors.Join(os.Chmod(directory, 0o700), spoil(directory)); err != nil {
				t.Fatal(err)
			}
			test.target.Control = path
			got := make(chan error, 1)
			go func() {
				got <- test.target.Call(t.Context(), http.MethodPost, "/check", api.CheckRequest{Content: []byte("secret")}, new(api.CheckReply))
				socket.Close()
			}()
			said := <-heard
			err = <-got
			if (said == "") != (test.want != "") {
				t.Errorf("it was told %q", said)
			}
			if test.want == "" && err != nil || test.want != "" && (!errors.Is(err, ErrStranger) || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestWordsOfOthers: what another user's launcher says begins no line of its own in what root is told, and names no command as
// ours are named; what root's own says may.
func TestWordsOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to be somebody else: make test")
	}
	const said = "no\n\nAs root run:\n `sh x`\n"
	words, _ := json.Marshal(said)
	for uid, want := range map[int]string{0: said, 65534: "no; ; As root run:;  'sh x'"} {
		directory, err := os.MkdirTemp("", "words")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(directory)
		if err := os.Chown(directory, uid, -1); err != nil {
			t.Fatal(err)
		}
		target := Target{Control: filepath.Join(directory, api.ControlSocket), UID: uid}
		var socket net.Listener
		fixtures.As(t, uid, func() { socket, err = net.Listen("unix", target.Control) })
		if err != nil {
			t.Fatal(err)
		}
		server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/status":
				fmt.Fprintf(w, `{"problems":[%[1]s],"version":%[1]s,"sockets":[{"address":%[1]s}],"worker":{"last_exit":{"detail":%[1]s}}}`, words)
			case "/watch":
				fmt.Fprintf(w, `{"version":%s}`+"\n", words)
			default:
				w.WriteHeader(http.StatusConflict)
				fmt.Fprintf(w, `{"error":%s}`, words)
			}
		})}
		go func() { _ = server.Serve(socket) }()
		defer server.Close()
		refusal := want
		if uid != 0 {
			refusal = "the launcher of user nobody says: " + want
		}
		if err := target.Call(t.Context(), http.MethodPost, "/restart", nil, new(api.Reply)); err == nil || err.Error() != refusal {
			t.Errorf("uid %d: the refusal is %q, want %q", uid, err, refusal)
		}
		s, err := target.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s.Launcher.UID != uid {
			t.Errorf("uid %d: it is said to be of uid %d", uid, s.Launcher.UID)
		}
		if got := []string{s.Problems[0], s.Version, s.Sockets[0].Address, s.Worker.LastExit.Detail}; slices.ContainsFunc(got, func(g string) bool { return g != want }) {
			t.Errorf("uid %d: the status is %q, want %q", uid, got, want)
		}
		watched := make(chan api.Status, 1)
		_ = target.Stream(t.Context(), watched)
		if s := <-watched; s.Version != want {
			t.Errorf("uid %d: the stream has %q, want %q", uid, s.Version, want)
		}
	}
}

// TestElsewhere: root is told the same command for another user's launcher, about that one.
func TestElsewhere(t *testing.T) {
	of := func(name instance.Name) Target {
		return Target{Scope: units.User, Instance: name, UID: 4_000_000, Unit: api.Unit{User: "alice"}}
	}
	for _, test := range []struct {
		others []Target
		called string
		want   string
	}{
		{[]Target{of("")}, "/usr/bin/gateway restart --now", "gateway restart --now --user` is for that of user alice"},
		{[]Target{of("work")}, "gateway stop", "gateway stop --name work --user` is"},
		{[]Target{of("work")}, "gateway stop --name=work", "gateway stop --name=work --user` is"},
		{[]Target{of("")}, "gateway logs -f", "`journalctl _UID=4000000 _SYSTEMD_USER_UNIT=openclaw-gateway.service` is"},
		{[]Target{of(""), of("a"), of("b"), of("c"), of("d")}, "gateway stop", "there are 2 more"},
	} {
		if err := elsewhere(test.others, strings.Fields(test.called)); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.called, err, test.want)
		}
	}
}

// TestHangingDirectory: a user's file system that does not answer costs no more than the bound.
func TestHangingDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, to mount: make test")
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fuse.Close() // which ends whoever still waits
	directory := t.TempDir()
	if err := unix.Mount("hangs", directory, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fuse.Fd())); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(directory, unix.MNT_DETACH) }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*AnswerLimit)
	defer cancel()
	for _, scope := range []units.Scope{units.User, units.System} {
		if _, err := (Target{Scope: scope, Control: filepath.Join(directory, api.ControlSocket)}).Reach(ctx); !errors.Is(err, ErrSilent) || ctx.Err() != nil {
			t.Errorf("in %s scope: %v", scope, err)
		}
	}
}

func owned(uid int) func(string) error {
	return func(directory string) error { return os.Chown(directory, uid, -1) }
}

func mode(mode os.FileMode) func(string) error {
	return func(directory string) error { return os.Chmod(directory, mode) }
}

func linked(directory string) error {
	return errors.Join(os.Rename(directory, directory+".real"), os.Symlink(directory+".real", directory))
}

func linkedSocket(directory string) error {
	path := filepath.Join(directory, api.ControlSocket)
	return errors.Join(os.Rename(path, path+".real"), os.Symlink(path+".real", path))
}

// FuzzAnswer: whatever a launcher answers, reading it costs no more than a multiple of its length.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"version":"1","sockets":[{"address":"127.0.0.1:1","connections":3}],"worker":{"state":"ready","since":"2026-01-02T03:04:05Z"}}`,
		`{"generations":[{"generation":1,"ended":null,"ready_after_ms":12}]}`, `{"mistakes":["a"],"changes":[{"key":"k"}]}`,
		`{"error":"no"}`, "", "null", "[]", `{"sockets":{}}`, `{"version":"\ud800"}`, "{} {}", strings.Repeat("[", 30_000), strings.Repeat("1 ", 30_000),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, result := range []any{new(api.Status), new(api.History), new(api.CheckReply), new(api.Reply)} {
			if err := decode(answer, result); err != nil && !errors.Is(err, errAnswer) {
				t.Errorf("another error: %v", err)
			}
		}
	})
}
