package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"

	"openclaw-gateway/cmd/gateway/config"
)

// newLogger returns a logger in one of the forms of log.format; auto is the
// journal when standard error leads there, else text.
func newLogger(format string, level slog.Leveler, stderr *os.File) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == config.FormatAuto {
		format = config.FormatText
		if toJournal, err := journal.StderrIsJournalStream(); err == nil && toJournal {
			format = config.FormatJournal
		}
	}
	switch format {
	case config.FormatJournal:
		return slog.New(&journalHandler{level: level, fallback: slog.NewTextHandler(stderr, options)})
	case config.FormatJSON:
		return slog.New(slog.NewJSONHandler(stderr, options))
	default:
		return slog.New(slog.NewTextHandler(stderr, options))
	}
}

// journalHandler writes to the journal's own socket, so that each attribute is a
// field of its own: journalctl -t gateway GENERATION=3 finds them.
type journalHandler struct {
	level    slog.Leveler
	attrs    []slog.Attr
	fallback slog.Handler // when the journal cannot be reached
}

func (h *journalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.level.Level()
}

func (h *journalHandler) Handle(ctx context.Context, record slog.Record) error {
	fields := map[string]string{"SYSLOG_IDENTIFIER": "gateway"}
	var text strings.Builder
	text.WriteString(record.Message)
	add := func(attr slog.Attr) bool {
		value := attr.Value.Resolve().String()
		fields[strings.ToUpper(attr.Key)] = value
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
	if err := journal.Send(text.String(), priority(record.Level), fields); err != nil {
		return h.fallback.Handle(ctx, record)
	}
	return nil
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
	if strings.ContainsAny(value, " \"=\n") {
		return fmt.Sprintf("%q", value)
	}
	return value
}
