package instance

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Name{"work": "work", "a": "a", "0": "0", "a-b-": "a-b-", strings.Repeat("x", 32): Name(strings.Repeat("x", 32)), "default": Default} {
		if got, err := Parse(text); err != nil || got != want {
			t.Errorf("Parse(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-a", "A", "a_b", "a.b", "a@b", "a/b", "..", "a b", "a\n", "ä", strings.Repeat("x", 33)} {
		if got, err := Parse(text); err == nil {
			t.Errorf("Parse(%q) = %q, which is no name", text, got)
		} else if !strings.Contains(err.Error(), Rule) {
			t.Errorf("Parse(%q): %v: the rule is missing", text, err)
		}
	}
}

func TestOfUnit(t *testing.T) {
	for _, name := range []Name{Default, "work", "a-b"} {
		for _, unit := range []string{name.Socket(), name.Service()} {
			if got, ok := OfUnit(unit); !ok || got != name {
				t.Errorf("OfUnit(%q) = %q, %v, want %q", unit, got, ok, name)
			}
		}
	}
	for _, unit := range []string{
		"", "openclaw-gateway", "openclaw-gateway.timer", "openclaw-gateway-.service", "openclaw-gateway-Work.service",
		"openclaw-gateway-default.service", "openclaw-gatewayx.service", "x-openclaw-gateway.service", "openclaw-gateway@x.service",
	} {
		if got, ok := OfUnit(unit); ok {
			t.Errorf("OfUnit(%q) = %q, which is no instance's", unit, got)
		}
	}
}
