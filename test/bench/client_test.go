package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"openclaw-gateway/test/machine"
)

// worker asks until it is answered, and returns the pid of who answers.
func (s system) worker(ctx context.Context, m *machine.Machine) (int, error) {
	body, err := firstAnswer(ctx, m, "http://"+s.address+"/")
	if err != nil {
		return 0, err
	}
	return workerPID(body)
}

// firstAnswer asks until it is answered with 200. Some systems return from their start before they listen, and tell nobody
// when they do.
func firstAnswer(ctx context.Context, m *machine.Machine, url string) (body string, err error) {
	client := m.HTTP()
	for {
		body, err := get(ctx, client, url)
		if err == nil {
			return body, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("nobody answers on %s: %w", url, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, client *http.Client, url string) (body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return string(content), err
}

var saysPID = regexp.MustCompile(`\bpid (\d+)\n`)

func workerPID(body string) (int, error) {
	said := saysPID.FindStringSubmatch(body)
	if said == nil {
		return 0, fmt.Errorf("the worker says %q, and no pid", body)
	}
	return strconv.Atoi(said[1])
}

// openStream returns when an answer that takes 3 s has begun, and sends at its end what became of it.
func openStream(ctx context.Context, m *machine.Machine, address string) (<-chan error, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/stream", nil)
	if err != nil {
		return nil, err
	}
	response, err := m.HTTP().Do(request)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !strings.HasSuffix(string(body), "complete\n") {
			err = fmt.Errorf("%s %q", response.Status, body)
		}
		ended <- err
	}()
	return ended, nil
}

// firstByte connects, asks, and returns how long it took until the first byte of the answer was there.
func firstByte(ctx context.Context, m *machine.Machine, address string) (time.Duration, error) {
	start := time.Now()
	conn, err := m.DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := setDeadline(ctx, conn); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	answer := bufio.NewReader(conn)
	_, err = answer.Peek(1)
	took := time.Since(start)
	if err == nil {
		_, err = io.Copy(io.Discard, answer)
	}
	return took, err
}

// echo opens a connection on which the worker sends every byte back.
func echo(ctx context.Context, m *machine.Machine, address string) (net.Conn, error) {
	conn, err := m.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	answer := make([]byte, 0, 1024)
	err = setDeadline(ctx, conn)
	if err == nil {
		_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	}
	for err == nil && !endsHead(answer) {
		// One byte at a time, so that nothing of what follows is taken.
		answer = append(answer, 0)
		_, err = io.ReadFull(conn, answer[len(answer)-1:])
		if err == nil && len(answer) == cap(answer) {
			err = errors.New("its head has no end")
		}
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("upgrade a connection to %s (%q): %w", address, answer, err)
	}
	return conn, nil
}

func endsHead(answer []byte) bool {
	return len(answer) > 4 && string(answer[len(answer)-4:]) == "\r\n\r\n"
}

func setDeadline(ctx context.Context, conn net.Conn) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		return errors.New("the context has no deadline")
	}
	return conn.SetDeadline(deadline)
}
