package steps

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/lastwords"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/netaddr"
)

// answerLimit is for a request to a worker that is ready.
const answerLimit = 30 * time.Second

// slack is what the launcher needs beside ready.timeout of its configuration, on a busy machine too.
const slack = 30 * time.Second

// awaitAnswer waits until the first worker serves, by its launcher's word, and has answered.
func (a *adoption) awaitAnswer(ctx context.Context) error {
	if !a.Running {
		return nil
	}
	start := time.Now()
	fmt.Fprintf(a.out, "waiting for its first answer, for %s at the most (ready.timeout)\n", say.Duration(a.config.Ready.Timeout))
	limited, cancel := context.WithTimeoutCause(ctx, a.config.Ready.Timeout+slack, errors.New("the worker did not become ready in time"))
	defer cancel()
	// A first client: with "start: on-demand" nobody else starts a worker.
	first, err := new(net.Dialer).DialContext(limited, "tcp", reachable(a.Listen[0]))
	if err != nil {
		return fmt.Errorf("connect to the port that is open now: %w", err)
	}
	defer first.Close()
	if err := a.systemctl(limited, "start", a.name.Service()); err != nil {
		return a.withLastWords(ctx, a.target(ctx), api.Status{}, err)
	}
	if err := a.awaitReady(ctx, limited); err != nil {
		return err
	}
	if a.Ready != "" {
		said, err := get(limited, a.Ready)
		if err != nil {
			return fmt.Errorf("the worker is ready, but: %w", err)
		}
		fmt.Fprintf(a.out, "%s answers after %s: %s\n", a.Ready, say.Duration(time.Since(start)), said)
		return nil
	}
	fmt.Fprintf(a.out, "it serves after %s\n", say.Duration(time.Since(start)))
	return nil
}

func (a *adoption) target(ctx context.Context) client.Target {
	return client.NewTarget(ctx, a.Scope, a.name)
}

// awaitReady follows what the launcher tells of itself, until a worker serves or has failed.
func (a *adoption) awaitReady(ctx, limited context.Context) error {
	target := a.target(limited)
	streaming, cancel := context.WithCancel(limited)
	defer cancel()
	told, ended := make(chan api.Status), make(chan error, 1)
	go func() { ended <- target.Stream(streaming, told) }()
	var latest api.Status
	last := ""
	for {
		select {
		case latest = <-told:
		case err := <-ended:
			return a.withLastWords(ctx, target, latest, fmt.Errorf("the launcher has ended: %w", err))
		case <-limited.Done():
			return a.withLastWords(ctx, target, latest, context.Cause(limited))
		}
		worker := latest.Worker
		switch exit := worker.LastExit; {
		case worker.State == api.StateReady:
			return nil
		case exit != nil && lastwords.Failed(exit.Reason), worker.State == api.StateFailed, worker.State == api.StateBackingOff:
			return a.withLastWords(ctx, target, latest, errors.New("the first worker has failed: "+strings.Join(latest.Problems, "; ")))
		}
		if text := fmt.Sprintf("generation %d is %s", worker.Generation, worker.State); text != last && worker.State != "" {
			last = text
			fmt.Fprintln(a.out, text)
		}
	}
}

// withLastWords adds to a reason what the worker said last.
func (a *adoption) withLastWords(ctx context.Context, target client.Target, s api.Status, why error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if s.Worker.State == "" {
		s, _ = target.Status(ctx)
	}
	if s.Worker.State == "" {
		return why
	}
	s.Notes = nil
	lastwords.Ask(target).Await(ctx, &s)
	if len(s.Worker.LastWords) == 0 && len(s.Notes) == 0 {
		return why
	}
	if len(s.Worker.LastWords) == 0 {
		return fmt.Errorf("%w\n%s", why, s.Notes[0])
	}
	return fmt.Errorf("%w\nits last words:\n  %s", why, strings.Join(s.Worker.LastWords, "\n  "))
}

// reachable is where a client of this machine reaches an address: a wildcard is none.
func reachable(address netaddr.Address) string {
	ip := address.Addr()
	switch ip {
	case netip.IPv4Unspecified():
		ip = netip.MustParseAddr("127.0.0.1")
	case netip.IPv6Unspecified():
		ip = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(ip, address.Port()).String()
}

// get returns the status of an answer, whatever it is, as the worker's own readiness is the launcher's to judge. A certificate
// is not looked at: it is this machine's own port.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} //nolint:gosec // see above
	response, err := (&http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	return response.Status, nil
}
