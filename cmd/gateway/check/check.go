package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/doctor"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/status"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// ErrSaid is that of a configuration whose mistakes have been printed.
var ErrSaid = errors.New("the configuration is not right")

// File checks the configuration at path, "" for none, for the launcher that is meant. It prints what it finds; the error is
// [ErrSaid] where that is why it fails.
func File(ctx context.Context, out, errOut io.Writer, choice client.Choice, path string) error {
	question := api.CheckRequest{Path: path}
	owner := -1
	if question.Path != "" {
		content, info, err := config.ReadFile(question.Path)
		if err != nil {
			return err
		}
		question.Content, owner = content, read.Owner(info)
	}
	var answer api.CheckReply
	targets := choice.Targets(ctx)
	t, alone := status.Reader(ctx, targets, question.Path)
	var told api.Status
	if alone == nil {
		told, alone = t.Status(ctx)
	}
	if alone == nil {
		ctx, cancel := context.WithTimeout(ctx, client.CheckLimit)
		defer cancel()
		alone = t.Call(ctx, http.MethodPost, api.CheckPath, question, &answer)
	}
	if alone != nil {
		_, err := config.Parse(question.Path, question.Content)
		if err := PrintMistakes(errOut, err); err != nil {
			return err
		}
	} else if len(answer.Mistakes) > 0 {
		say.Tell(errOut, "%s", strings.Join(answer.Mistakes, "\n"))
		return ErrSaid
	}
	if address, err := netaddr.Parse(answer.InUse); err == nil {
		wisher := cmp.Or(status.Wisher(told.Launcher.UID), status.Wisher(read.Author(question.Path)))
		answer.Rejected += ": " + holders.InUseFor(ctx, address, wisher)
	}
	if answer.Rejected != "" {
		return fmt.Errorf("the running launcher (pid %d) would reject it: %s", answer.PID, answer.Rejected)
	}
	if question.Path != "" {
		about, name := status.ScopeOf(choice, t, targets, question.Path), choice.Name
		if t.Scope != "" {
			name = t.Instance
		}
		if err := printJudgement(ctx, errOut, about, name, question, owner); err != nil {
			return err
		}
	}
	name := question.Path
	if name == "" {
		name = "no configuration file; the built-in defaults"
	}
	if err := say.Tell(out, "%s: valid", name); err != nil {
		return err
	}
	// What this process cannot read as the launcher does has been told, or is a variable of the one's alone.
	if cfg, err := config.Parse(question.Path, question.Content); err == nil {
		for _, doubt := range doctor.Doubts(cfg) {
			say.Tell(errOut, "%s: %s: warning: %s", cmp.Or(cfg.Source[doubt.Key], name), doubt.Key, doubt.Sentence)
		}
	}
	if alone != nil {
		say.Tell(errOut, "not compared with a running launcher: %v", alone)
		return nil
	}
	return status.WriteCheck(out, answer, t)
}

// printJudgement says what cannot work, which is the exit status too, and what may not.
func printJudgement(ctx context.Context, errOut io.Writer, scope units.Scope, name instance.Name, question api.CheckRequest, owner int) error {
	findings, unknown := doctor.Judge(ctx, scope, name, question.Path, question.Content, owner)
	var failed error
	for _, finding := range findings {
		say.Tell(errOut, "%s: %s", finding.Severity, say.Printable(finding.Summary))
		if finding.Severity == doctor.Error {
			failed = ErrSaid
		}
	}
	for _, u := range unknown {
		say.Tell(errOut, "not looked at: %s", say.Printable(u.What))
	}
	return failed
}

// PrintMistakes prints mistakes in a configuration as they are, and has [ErrSaid] stand for them; any other error it returns.
func PrintMistakes(errOut io.Writer, err error) error {
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		say.Tell(errOut, "%v", mistakes)
		return ErrSaid
	}
	return err
}
