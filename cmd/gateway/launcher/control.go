package launcher

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

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/peer"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker/proctree"
)

// control is the launcher's end of the control socket: HTTP and JSON for those
// who may signal the launcher anyway, the same user and root.
type control struct {
	log       *slog.Logger
	directory *runtimeDirectory
	server    http.Server

	mu     sync.Mutex
	socket *net.UnixListener
	file   fs.FileInfo // of the socket, to know it again
	lost   error       // why there is none, where it was removed
}

// questionLimit is in bytes: the largest configuration that is read (8 MiB), in JSON.
const questionLimit = 12 << 20

type peerKey struct{}

// newControl makes the control socket. It fails when another launcher answers
// there, so it also keeps two of them apart.
func newControl(directory *runtimeDirectory, log *slog.Logger) (*control, error) {
	c := &control{log: log, directory: directory}
	path, err := directory.path()
	if err == nil {
		err = c.listen(path)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// listen makes the control socket in the directory, in the place of the one that there was.
func (c *control) listen(directory string) error {
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

// keep makes the control socket again whenever somebody has removed it, or its directory, until the context is done.
func (c *control) keep(ctx context.Context) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		c.log.Error("a control socket that is removed does not come back by itself", "error", err)
		return
	}
	defer watcher.Close()
	for {
		if err := c.restore(watcher); err != nil {
			c.log.Error("the control socket was removed and cannot be made again", "error", err)
		}
		select {
		case <-watcher.Events:
		case err := <-watcher.Errors:
			c.log.Warn("not all that happens to the control socket is noticed", "error", err)
		case <-ctx.Done():
			return
		}
	}
}

// restore looks whether the control socket is where it was made, or should be now, and makes it there if it is not.
func (c *control) restore(watcher *fsnotify.Watcher) error {
	directory, err := c.directory.path()
	// Before the look, so that no removal falls between the two. The parent is watched only while the directory is missed:
	// in /run there is always something that happens.
	parent := filepath.Dir(c.directory.own)
	if problem := c.directory.Problem(); err != nil || problem != "" {
		err = errors.Join(err, watcher.Add(parent))
	} else {
		_ = watcher.Remove(parent)
	}
	if directory != "" {
		err = errors.Join(err, watcher.Add(directory))
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
	return err
}

// problem says what is wrong with the control socket or its directory; "" if nothing is.
func (c *control) problem() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return c.lost.Error()
	}
	return c.directory.Problem()
}

// verbs are what can be asked of a launcher.
type verbs interface {
	Status() api.Status
	// Watch sends the status now and at each change, until the context is done or one cannot be sent.
	Watch(ctx context.Context, send func(api.Status) error)
	History() api.History
	Check(question api.CheckRequest) api.CheckReply
	// Restart and Reload return when the worker is ready, or with the reason why it is not.
	Restart(ctx context.Context, now bool) error
	Reload(context.Context) error
	// Hurry has the worker killed right behind its stop signal when the launcher stops, or now if it does.
	Hurry()
}

// serve answers until the control socket is closed.
func (c *control) serve(l verbs) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.Status()) })
	mux.HandleFunc("GET /history", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, l.History()) })
	mux.HandleFunc("POST /check", func(w http.ResponseWriter, r *http.Request) {
		c.logAsker(r, "check")
		var question api.CheckRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, questionLimit)).Decode(&question); err != nil {
			reply(w, http.StatusBadRequest, api.Reply{Error: "read the question: " + err.Error()})
			return
		}
		reply(w, http.StatusOK, l.Check(question))
	})
	// Those who watch would hold up the launcher's end.
	watching, endWatches := context.WithCancel(context.Background())
	mux.HandleFunc("GET /watch", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(watching, cancel)()
		w.Header().Set("Content-Type", "application/x-ndjson")
		lines, flush := json.NewEncoder(say.NewJSONWriter(w)), http.NewResponseController(w)
		l.Watch(ctx, func(s api.Status) error { return errors.Join(lines.Encode(s), flush.Flush()) })
	})
	verb := func(name string, do func(context.Context) error) {
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			c.logAsker(r, name)
			if err := do(r.Context()); err != nil {
				reply(w, http.StatusConflict, api.Reply{Error: err.Error()})
				return
			}
			reply(w, http.StatusOK, api.Reply{})
		})
	}
	verb("restart", func(ctx context.Context) error { return l.Restart(ctx, false) })
	verb("restart-now", func(ctx context.Context) error { return l.Restart(ctx, true) })
	verb("hurry", func(context.Context) error {
		l.Hurry()
		return nil
	})
	verb("reload", l.Reload)
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
func (c *control) accept(socket *net.UnixListener) {
	if err := c.server.Serve(socket); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		c.log.Error("the control socket has failed", "path", socket.Addr(), "error", err)
	}
}

// logAsker logs who asked; the request has passed permit.
func (c *control) logAsker(r *http.Request, what string) {
	peer := r.Context().Value(peerKey{}).(*unix.Ucred)
	process, _ := proctree.Find(int(peer.Pid)) // without a name when it has gone
	c.log.Info("asked for a "+what, "by_pid", peer.Pid, "by_uid", peer.Uid, "by", process.Name)
}

// Close ends the control socket, when those who wait for an outcome have it.
func (c *control) Close() {
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
	uidMap, _ := os.ReadFile("/proc/self/uid_map")
	root := rootHere(string(uidMap))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, known := r.Context().Value(peerKey{}).(*unix.Ucred)
		if !known || (peer.Uid != root && int(peer.Uid) != os.Geteuid()) {
			reply(w, http.StatusForbidden, api.Reply{Error: "only the launcher's own user and root may use the control socket"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A client that has gone needs no answer.
	_ = say.JSON(w, body, "")
}

// rootHere returns the uid that root has in the user namespace with that map of uids (user_namespaces(7)). Where root is not
// in it, as in that of a user's hardened service, it is everybody's who is not: the kernel's default for the sysctl
// kernel.overflowuid. There the mode of the directory is what keeps the others out.
func rootHere(uidMap string) uint32 {
	const nobody = 65534
	for line := range strings.Lines(uidMap) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "0" {
			return 0
		}
	}
	if uidMap == "" {
		return 0 // without user namespaces
	}
	return nobody
}
