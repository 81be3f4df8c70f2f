// Command go is a server that inherits its socket.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	listener, err := net.FileListener(os.NewFile(3, "listener"))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	stop, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	ended := make(chan error)
	go func() {
		<-stop.Done()
		ended <- server.Shutdown(context.Background())
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
}

func answer(w http.ResponseWriter, _ *http.Request) {
	time.Sleep(20 * time.Millisecond)
	fmt.Fprintf(w, "generation %s\n", os.Getenv("GATEWAY_GENERATION"))
}
