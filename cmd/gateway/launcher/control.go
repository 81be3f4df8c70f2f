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
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/peer"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker/proctree"
)

// control is the launcher's end of the control socket: HTTP and JSON for those
// who may signal the launcher anyway, the same user and root.
type control struct {
	log    *slog.Logger
	server http.Server
	socket net.Listener
}

// questionLimit is in bytes: the largest configuration that is read (8 MiB), in JSON.
const questionLimit = 12 << 20

type peerKey struct{}

// listenControl makes the control socket in directory. It fails when another
// launcher answers there, so it also keeps two of them apart.
func listenControl(directory string, log *slog.Logger) (*control, error) {
	path := filepath.Join(directory, api.ControlSocket)
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("another launcher answers on %s: stop it first, \"gateway status\" says what it is", path)
	}
	// One that a killed launcher left.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	socket, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("make the control socket: %w", err), socket.Close())
	}
	return &control{log: log, socket: socket}, nil
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
	go func() {
		if err := c.server.Serve(c.socket); !errors.Is(err, http.ErrServerClosed) {
			c.log.Error("the control socket has failed", "path", c.socket.Addr(), "error", err)
		}
	}()
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
