package logging

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/lmittmann/tint"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/worker/proctree"
)

// New returns a logger in one of the forms of log.format; auto is the journal when standard error leads there, else text. Nobody waits for
// whoever reads that: flush has the last lines written before the process ends, as far as somebody reads them within a second.
func New(format string, level slog.Leveler, stderr *os.File) (log *slog.Logger, flush func()) {
	options := &slog.HandlerOptions{Level: level}
	if format == config.FormatAuto {
		format = config.FormatText
		if toJournal, err := journal.StderrIsJournalStream(); err == nil && toJournal {
			format = config.FormatJournal
		}
	}
	text := say.NewWriter(stderr)
	var lines *queue
	var handler slog.Handler
	switch {
	case format == config.FormatJSON:
		lines = newQueue(say.NewJSONWriter(stderr))
		handler = slog.NewJSONHandler(lines, options)
	case format != config.FormatJournal && bool(say.PainterFor(text)):
		lines = newQueue(stderr) // its colours are no Painter's
		handler = tint.NewTextHandler(lines, &tint.Options{Level: level, TimeFormat: time.DateTime, ReplaceAttr: printable})
	default:
		lines = newQueue(text)
		handler = slog.NewTextHandler(lines, options)
	}
	handler = tallied{handler, lines}
	if format == config.FormatJournal {
		handler = &journalHandler{level: level, fallback: handler, journal: newSender(journalPath), unit: unitFields(proctree.Cgroup(os.Getpid()))}
	}
	return slog.New(handler), lines.flush
}

// printable is an attribute, or a message, without what could disturb a terminal.
func printable(_ []string, attr slog.Attr) slog.Attr {
	if kind := attr.Value.Kind(); attr.Key != slog.LevelKey && (kind == slog.KindString || kind == slog.KindAny) {
		attr.Value = slog.StringValue(say.Printable(attr.Value.String()))
	}
	return attr
}

// journalHandler writes to the journal's own socket, so that each attribute is a
// field of its own: journalctl -t gateway GENERATION=3 finds them.
type journalHandler struct {
	level    slog.Leveler
	attrs    []slog.Attr
	fallback slog.Handler // when the journal cannot be reached
	journal  *sender
	unit     map[string]string // see unitFields
}

// unitFields are what journalctl -u finds an entry by (add_matches_for_unit in systemd's src/shared/logs-show.c) where journald does not see
// whose it is: it looks when it reads the entry, and who has ended until then has no control group any more.
func unitFields(cgroup string) map[string]string {
	switch unit, user := proctree.UnitOf(cgroup); {
	case unit == "":
		return nil
	case user:
		return map[string]string{"OBJECT_SYSTEMD_USER_UNIT": unit}
	default:
		return map[string]string{"OBJECT_SYSTEMD_UNIT": unit}
	}
}

func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *journalHandler) Handle(ctx context.Context, record slog.Record) error {
	lost := h.journal.lost.Load()
	record = tellLost(record, lost)
	message, fields := h.entry(record)
	fields["MESSAGE"], fields["PRIORITY"] = message, strconv.Itoa(int(priority(record.Level)))
	switch err := h.journal.send(fields, lost == 0); {
	case errors.Is(err, unix.EAGAIN): // standard error leads to the same journal, and a write there waits
		h.journal.lost.Add(1)
	case err != nil:
		return h.fallback.Handle(ctx, record)
	default:
		h.journal.lost.CompareAndSwap(lost, 0)
	}
	return nil
}

// entry is a record as the journal has it.
func (h *journalHandler) entry(record slog.Record) (message string, fields map[string]string) {
	fields = map[string]string{}
	maps.Copy(fields, h.unit)
	var text strings.Builder
	text.WriteString(say.Printable(record.Message))
	add := func(attr slog.Attr) bool {
		value := attr.Value.Resolve().String()
		fields[fieldName(attr.Key)] = say.Lines(value)
		// Also in the message, which is all that most people see.
		if value != "" {
			fmt.Fprintf(&text, " %s=%s", attr.Key, quote(value))
		}
		return true
	}
	for _, attr := range h.attrs {
		add(attr)
	}
	record.Attrs(add)
	fields["SYSLOG_IDENTIFIER"] = "gateway"
	return text.String(), fields
}

// fieldName is a key as a field: journald takes capitals, digits and underscores,
// and drops an entry that has anything else (systemd.journal-fields(7)).
func fieldName(key string) string {
	name := strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(key))
	switch {
	case name == "MESSAGE", name == "PRIORITY", strings.HasPrefix(name, "_"), name == "", '0' <= name[0] && name[0] <= '9':
		return "GATEWAY_" + strings.TrimLeft(name, "_")
	}
	return name
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.attrs = append(next.attrs[:len(next.attrs):len(next.attrs)], attrs...)
	next.fallback = h.fallback.WithAttrs(attrs)
	return &next
}

// WithGroup leaves the names as they are: the journal's fields have no groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

func priority(level slog.Level) journal.Priority {
	switch {
	case level >= slog.LevelError:
		return journal.PriErr
	case level >= slog.LevelWarn:
		return journal.PriWarning
	case level >= slog.LevelInfo:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}

func quote(value string) string {
	if strings.ContainsAny(value, " \"=\n") || say.Printable(value) != value {
		return fmt.Sprintf("%q", value)
	}
	return value
}
