package hello

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/coder/websocket"
)

// messageLimit is the longest message that is echoed, in bytes. A longer one closes the connection with status 1009.
const messageLimit = 64 << 10

// webSockets echoes messages, and knows its connections, because http.Server forgets those that were taken from it. A page
// of another origin cannot connect: that is the library's default.
type webSockets struct {
	stopping context.Context // done: every connection is closed as going away, status 1001
	cancel   context.CancelFunc
	mutex    sync.Mutex // nobody enters while stop is called, so that open is complete for wait
	open     sync.WaitGroup
}

func newWebSockets() *webSockets {
	s := &webSockets{}
	s.stopping, s.cancel = context.WithCancel(context.Background())
	return s
}

func (s *webSockets) enter() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.stopping.Err() != nil {
		return false
	}
	s.open.Add(1)
	return true
}

// stop closes all connections, without waiting for it.
func (s *webSockets) stop() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.cancel()
}

// wait returns when all connections are closed, or with an error when ctx is done. stop comes first.
func (s *webSockets) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.open.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a WebSocket is still open: %w", ctx.Err())
	}
}

func (s *webSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	defer s.open.Done()
	connection, err := websocket.Accept(w, r, nil)
	if err != nil {
		return // Accept has answered
	}
	defer connection.CloseNow()
	connection.SetReadLimit(messageLimit)

	closed := make(chan struct{})
	cancel := context.AfterFunc(s.stopping, func() {
		defer close(closed)
		_ = connection.Close(websocket.StatusGoingAway, "the server is stopping") // an error means that the client has gone
	})
	echo(r.Context(), connection)
	if !cancel() {
		<-closed // the close frame is on its way
	}
}

// echo returns when the connection is closed, by either side.
func echo(ctx context.Context, connection *websocket.Conn) {
	for {
		kind, message, err := connection.Read(ctx)
		if err != nil {
			return
		}
		if connection.Write(ctx, kind, message) != nil {
			return
		}
	}
}
