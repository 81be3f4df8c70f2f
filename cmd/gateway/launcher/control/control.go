// Package control is the launcher's end of the control socket.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/inotify"
	"openclaw-gateway/cmd/gateway/launcher/runtimedir"
	"openclaw-gateway/cmd/gateway/peer"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/passed"
	"openclaw-gateway/worker/proctree"
)

// Control is the launcher's end of the control socket: HTTP and JSON for those
// who may signal the launcher anyway, the same user and root.
type Control struct {
	Changed func() // is called when Problem becomes another while Keep runs; may be nil

	log       *slog.Logger
	directory *runtimedir.Directory
	server    http.Server

	mu     sync.Mutex
	socket *net.UnixListener
	file   fs.FileInfo // of the socket, to know it again
	lost   error       // why there is none, where it was removed, or would be none

	asked    sync.RWMutex  // each request that does something has it for reading until it is answered
	answered chan struct{} // and tells then whoever wants to have it alone
}

// questionLimit is in bytes: the largest configuration that is read (8 MiB), in JSON.
const questionLimit = 12 << 20

type peerKey struct{}

// New makes the control socket. It fails when another launcher answers
// there, so it also keeps two of them apart.
func New(directory *runtimedir.Directory, log *slog.Logger) (*Control, error) {
	c := &Control{log: log, directory: directory, answered: make(chan struct{}, 1)}
	path, err := directory.Path()
	if err == nil {
		err = c.listen(path)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// listen makes the control socket in the directory, in the place of the one that there was.
func (c *Control) listen(directory string) error {
	path := filepath.Join(directory, api.ControlSocket)
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("another launcher answers on %s: stop it first, \"gateway status\" says what it is", path)
	}
	// One that a killed launcher left.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make the control socket: %w", err)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fmt.Errorf("make the control socket: %w", err)
	}
	file, err := os.Lstat(path)
	if err := errors.Join(err, os.Chmod(path, 0o600)); err != nil {
		return errors.Join(fmt.Errorf("make the control socket: %w", err), socket.Close())
	}
	old, oldFile := c.socket, c.file
	c.socket, c.file = socket, file
	if old == nil {
		return nil
	}
	old.SetUnlinkOnClose(false) // its name may be another's by now
	if info, err := os.Lstat(old.Addr().String()); err == nil && os.SameFile(info, oldFile) {
		_ = os.Remove(old.Addr().String())
	}
	_ = old.Close()
	return nil
}

// Keep makes the control socket again whenever somebody has removed it, or its directory, until the context is done.
func (c *Control) Keep(ctx context.Context) {
	problem := c.Problem()
	tell := func() {
		if now := c.Problem(); now != problem && c.Changed != nil {
			problem = now
			c.Changed()
		}
	}
	defer tell()
	events, err := inotify.New()
	if err != nil {
		c.lose(err)
		return
	}
	defer events.Close()
	defer context.AfterFunc(ctx, func() { _ = events.Close() })()
	var parent int32
	for ctx.Err() == nil {
		if parent, err = c.restore(events, parent); err != nil {
			c.log.Error("the control socket was removed and cannot be made again", "error", err)
		}
		tell()
		if _, err := events.Read(true); err != nil && ctx.Err() == nil {
			c.lose(err)
			return
		}
	}
}

// lose says that from now on nobody would notice that the socket is removed.
func (c *Control) lose(err error) {
	const what = "a control socket that is removed does not come back by itself"
	c.log.Error(what, "error", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = fmt.Errorf("%s: %w", what, err)
}

// restore looks whether the control socket is where it was made, or should be now, and makes it there if it is not. The parent
// of the directory is watched only while that is missed, as in /run there is always something that happens: parent is the watch,
// 0 for none.
func (c *Control) restore(events *inotify.Queue, parent int32) (int32, error) {
	const wanted = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF
	directory, err := c.directory.Path()
	// Before the look, so that no removal falls between the two.
	if directory != "" {
		_, watchErr := events.Add(directory, wanted)
		err = errors.Join(err, watchErr)
	}
	switch missed := err != nil || c.directory.Problem() != ""; {
	case missed:
		watch, watchErr := events.Add(filepath.Dir(c.directory.Own), wanted)
		parent, err = watch, errors.Join(err, watchErr)
	case parent != 0:
		_ = events.Remove(parent)
		parent = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	path := filepath.Join(directory, api.ControlSocket)
	if info, statErr := os.Lstat(path); err == nil && (statErr != nil || !os.SameFile(info, c.file)) {
		if err = c.listen(directory); err == nil {
			c.log.Warn("the control socket was removed and is here again", "path", path)
			go c.accept(c.socket)
		}
	}
	c.lost = err
	return parent, err
}

// Problem says what is wrong with the control socket or its directory; "" if nothing is.
func (c *Control) Problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost.Error()
	}
	return c.directory.Problem()
}

// Verbs are what can be asked of a launcher.
type Verbs interface {
	Status() api.Status
	// Watch sends the status now and at each change, until the context is done or one cannot be sent.
	Watch(ctx context.Context, send func(api.Status) error)
	History() api.History
	Check(question api.CheckRequest) api.CheckReply
	// Restart and Reload return when the worker is ready, or with the reason why it is not.
	Restart(ctx context.Context, now bool) error
	Reload(context.Context) error
	// Upgrade returns only if the launcher has not become the program that is installed now.
	Upgrade(context.Context) error
	// Hurry has the worker killed right behind its stop signal when the launcher stops, or now if it does.
	Hurry()
}

// Serve answers until the control socket is closed.
func (c *Control) Serve(l Verbs) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.StatusPath, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.Status()) })
	mux.HandleFunc("GET "+api.HistoryPath, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.History()) })
	mux.HandleFunc("POST "+api.CheckPath, func(w http.ResponseWriter, r *http.Request) {
		c.logAsker(r)
		var question api.CheckRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, questionLimit)).Decode(&question); err != nil {
			reply(w, http.StatusBadRequest, api.Reply{Error: "read the question: " + err.Error()})
			return
		}
		reply(w, http.StatusOK, l.Check(question))
	})
	// Those who watch would hold up the launcher's end.
	watching, endWatches := context.WithCancel(context.Background())
	mux.HandleFunc("GET "+api.WatchPath, func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(watching, cancel)()
		w.Header().Set("Content-Type", "application/x-ndjson")
		lines, flush := json.NewEncoder(say.NewJSONWriter(w)), http.NewResponseController(w)
		l.Watch(ctx, func(s api.Status) error { return errors.Join(lines.Encode(s), flush.Flush()) })
	})
	verb := func(path string, do func(context.Context) error) {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			c.logAsker(r)
			c.asked.RLock()
			defer func() {
				c.asked.RUnlock()
				select {
				case c.answered <- struct{}{}:
				default: // it has been told already that it is to look
				}
			}()
			answer(w, do(r.Context()))
		})
	}
	mux.HandleFunc("POST "+api.UpgradePath, func(w http.ResponseWriter, r *http.Request) {
		c.logAsker(r)
		answer(w, l.Upgrade(r.Context())) // where it succeeds there is nobody who could
	})
	verb(api.RestartPath, func(ctx context.Context) error { return l.Restart(ctx, false) })
	verb(api.RestartNowPath, func(ctx context.Context) error { return l.Restart(ctx, true) })
	verb(api.HurryPath, func(context.Context) error {
		l.Hurry()
		return nil
	})
	verb(api.ReloadPath, l.Reload)
	c.server = http.Server{
		Handler:           permit(mux),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			asker, err := peer.Of(conn)
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, peerKey{}, asker)
		},
	}
	c.server.RegisterOnShutdown(endWatches)
	go c.accept(c.socket)
}

// accept answers on one socket, until the server or that one is closed.
func (c *Control) accept(socket *net.UnixListener) {
	if err := c.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		c.log.Error("the control socket has failed", "path", socket.Addr(), "error", err)
	}
}

// logAsker logs who asked; the request has passed permit.
func (c *Control) logAsker(r *http.Request) {
	peer := r.Context().Value(peerKey{}).(*unix.Ucred)
	process, _ := proctree.Find(int(peer.Pid)) // without a name when it has gone
	c.log.Info("asked for a "+strings.TrimPrefix(r.URL.Path, "/"), "by_pid", peer.Pid, "by_uid", peer.Uid, "by", process.Name)
}

// Close ends the control socket, when those who wait for an outcome have it.
func (c *Control) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := c.server.Shutdown(ctx); err != nil {
		_ = c.server.Close()
	}
	// Also where it was never served.
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.socket.Close()
}

// permit lets the launcher's own user and root in: the mode of the socket says
// the same, but a mode can be changed.
func permit(next http.Handler) http.Handler {
	root := peer.Root()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asker, known := r.Context().Value(peerKey{}).(*unix.Ucred)
		if !known || (asker.Uid != root && int(asker.Uid) != os.Geteuid()) {
			reply(w, http.StatusForbidden, api.Reply{Error: "only the launcher's own user and root may use the control socket"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// answer tells what has come of a request, before whoever waits for all answers goes on.
func answer(w http.ResponseWriter, err error) {
	if err != nil {
		reply(w, http.StatusConflict, api.Reply{Error: err.Error()})
	} else {
		reply(w, http.StatusOK, api.Reply{})
	}
	_ = http.NewResponseController(w).Flush()
}

// Quiet returns when each request that does something has its answer; others wait until release is called. While it waits nobody else does:
// whoever waits for a lock for writing would hold up those who can end what it waits for, as "gateway restart --now" can.
func (c *Control) Quiet(ctx context.Context) (release func(), err error) {
	for !c.asked.TryLock() {
		select {
		case <-c.answered:
		case <-ctx.Done():
			return nil, errors.New("somebody still waits for what comes of a restart or a reload")
		}
	}
	return c.asked.Unlock, nil
}

// Pass passes the socket on.
func (c *Control) Pass(files *passed.Files) (fd int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return files.Add(c.socket)
}

// Resume takes the control socket that an earlier program of this process has passed on, and those who have connected since.
func Resume(directory *runtimedir.Directory, log *slog.Logger, fd int) (*Control, error) {
	file, err := passed.Take(fd, "control socket")
	if err != nil {
		return nil, err
	}
	defer file.Close() // what follows is a duplicate
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("take the control socket: %w", err)
	}
	socket, is := listener.(*net.UnixListener)
	if !is {
		return nil, errors.Join(errors.New("take the control socket: it is none"), listener.Close())
	}
	socket.SetUnlinkOnClose(true)
	c := &Control{log: log, directory: directory, answered: make(chan struct{}, 1), socket: socket}
	c.file, _ = os.Lstat(socket.Addr().String()) // where it has been removed, Keep makes it again
	return c, nil
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone needs no answer.
	_ = say.JSON(w, body, "")
}
