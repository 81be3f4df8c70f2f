package intercept_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"openclaw-gateway/passed"
	"openclaw-gateway/test/sockets"
	"openclaw-gateway/worker/handoff"
	"openclaw-gateway/worker/proctree"
)

func init() {
	// Listens anew for each line, and says what has come of it.
	ofPort("listen when told", func(port uint16) {
		last := -1
		for told := bufio.NewScanner(os.Stdin); told.Scan(); {
			_ = unix.Close(last)
			last = tcp4()
			fmt.Println(named(errors.Join(unix.Bind(last, v4("127.0.0.1", port)), unix.Listen(last, 1))), listening(last))
		}
	})
}

// TestResume: the calls of a worker are answered by one program after the other, also one that was made in between, and what it has
// taken before is known.
func TestResume(t *testing.T) {
	t.Parallel()
	held := sockets.Hold(t, "127.0.0.1")
	w := start(t, held, "listen when told", port(held[0]))
	lines := bufio.NewReader(w.stdout)
	listens := handoff.Report{Event: handoff.Listening, Address: held[0].Address, Held: true, Bound: true}
	w.tell("")
	w.says(lines, "<nil> true")
	reported := make(chan handoff.Report, 100)
	read := func(h handoff.Handoff) {
		for {
			report, err := h.Reports().Next()
			if err != nil {
				return
			}
			reported <- report
		}
	}
	go read(w.handoff)
	suspended := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		h := w.handoff
		resume, err := h.Suspend(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			resume()
			if h != w.handoff {
				_ = h.Close()
			}
		})
	}
	given := []handoff.Socket{{File: held[0].File, Address: held[0].Address}}
	for range 3 {
		suspended()
		w.tell("") // its call waits in the kernel
		saved, err := w.handoff.Save(new(passed.Files))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(saved)
		var again handoff.Saved
		if err == nil {
			err = json.Unmarshal(text, &again)
		}
		if err == nil {
			again.Filter.FD, err = unix.Dup(again.Filter.FD) // which is not closed with the program, as one that was passed
		}
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		w.handoff, err = handoff.Resume(again, given, func() []int { return proctree.Tree(w.process.Pid) })
		if err != nil {
			t.Fatal(err)
		}
		go read(w.handoff)
		w.says(lines, "<nil> true")
		sockets.Dial(t, held[0].Address)
	}
	other := sockets.Hold(t, "127.0.0.1")
	suspended()
	for len(reported) > 0 {
		if report := <-reported; report != listens && report.Event != handoff.Closed {
			t.Errorf("reported is %+v", report)
		}
	}
	saved, err := w.handoff.Save(new(passed.Files))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := handoff.Resume(saved, []handoff.Socket{{File: other[0].File, Address: other[0].Address}}, nil); err == nil {
		t.Error("it is taken up with other sockets")
	}
}
