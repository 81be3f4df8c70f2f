package launcher

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/units/instance"
)

// check says what the configuration would do if it were applied now. It changes
// nothing. The launcher's own environment counts, not that of whoever asks. waiting says that no worker runs.
func (e *editions) check(question api.CheckRequest, waiting bool) api.CheckReply {
	answer := api.CheckReply{PID: os.Getpid(), Mistakes: []string{}, Changes: []api.Change{}}
	if question.Path == "" { // whoever asks has found none
		if _, err := e.files.LoadAfter(e.before()); errors.Is(err, fs.ErrNotExist) {
			answer.Rejected = err.Error()
			return answer
		}
	}
	cfg, err := config.Parse(question.Path, question.Content)
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		answer.Mistakes = say.Texts(mistakes)
		return answer
	}
	if err != nil {
		answer.Mistakes = []string{err.Error()}
		return answer
	}
	read := reading{cfg: cfg}
	read.readEnvironment()
	// What is compared with must not change meanwhile.
	e.mu.Lock()
	defer e.mu.Unlock()
	selected, addresses, err := e.held.foresee(wishOf(cfg))
	if err != nil {
		answer.Rejected = inKey(cfg, "listen", err).Error()
		if used, ok := errors.AsType[*AddressInUse](err); ok {
			answer.InUse = used.Address.String()
		}
		return answer
	}
	var next *edition
	current := e.current()
	if err = read.err; err == nil {
		err = read.emptied(current)
	}
	if err == nil {
		next, err = e.assemble(cfg, selected, read.fromFile)
	}
	if err != nil {
		answer.Rejected = err.Error()
		return answer
	}
	next.addresses = addresses
	if current == nil {
		answer.Summary = "no configuration is in use: this one would be"
		return answer
	}
	answer.Changes = append(answer.Changes, compare(current, next)...)
	if len(addresses) == 0 {
		// Not before systemd holds one of them.
		for i := range answer.Changes {
			answer.Changes[i].Effect = api.EffectWithUnits
		}
	}
	answer.Summary = summaryOf(e.held.of, answer.Changes, waiting)
	return answer
}

// summaryOf says in a sentence what the changes do together.
func summaryOf(of instance.Name, changes []api.Change, waiting bool) string {
	text := "the worker would go on as it is"
	switch {
	case len(changes) == 0:
		return "nothing would change"
	case !slices.ContainsFunc(changes, api.Change.Restarts):
	case waiting:
		text = "no worker runs: the first client would start the new one"
	default:
		text = "the worker would be replaced by the next generation, and clients would wait meanwhile"
	}
	if slices.ContainsFunc(changes, func(c api.Change) bool {
		return c.Effect == api.EffectWithUnits || c.Effect == api.EffectNowAndWithUnits
	}) {
		text += fmt.Sprintf("; after the save run %q again, which renders the units", gateway(of, "install"))
	}
	return text
}
