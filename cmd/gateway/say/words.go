package say

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// Address is one as it stands in listen: that of a dual-stack socket, the IPv6 wildcard, is *:PORT.
func Address(address netaddr.Address, dualStack bool) string {
	if dualStack && address.Addr() == netip.IPv6Unspecified() {
		return fmt.Sprintf("*:%d", address.Port())
	}
	return address.String()
}

// Addresses lists addresses for a sentence.
func Addresses(addresses []netaddr.Address) string { return List(Texts(addresses)) }

// Listen lists addresses as they stand in listen; see Address.
func Listen(addresses []netaddr.Address, dualStack bool) string {
	var texts []string
	for _, address := range addresses {
		texts = append(texts, Address(address, dualStack))
	}
	return List(texts)
}

// Texts is how each of them is written.
func Texts[T fmt.Stringer](all []T) []string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = one.String()
	}
	return texts
}

// Are is the verb for so many.
func Are(n int) string {
	if n > 1 {
		return "are"
	}
	return "is"
}

// List lists words for a sentence: "a", "a and b", "a, b and c".
func List(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// Count is so many of something: "1 process", "2 processes".
func Count(n int, one string) string {
	switch {
	case n == 1:
		return "1 " + one
	case strings.HasSuffix(one, "s"):
		one += "e"
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Duration is a duration for a person: to the millisecond below a second, else to a tenth of one.
func Duration(d time.Duration) time.Duration {
	if d < time.Second {
		return d.Round(time.Millisecond)
	}
	return d.Round(100 * time.Millisecond)
}

// Signal is the name of a signal, or its number where it has none; "" for 0, which is no signal.
func Signal(signal unix.Signal) string {
	if name := unix.SignalName(signal); name != "" || signal == 0 {
		return name
	}
	return fmt.Sprintf("signal %d", int(signal))
}

// End says it in words, without the reason.
func End(code int, signal string) string {
	switch {
	case signal != "":
		return "killed by " + signal
	case code >= 0:
		return fmt.Sprintf("exit code %d", code)
	case code == -2:
		return "ended, nobody can tell how"
	default:
		return "never ran"
	}
}

// Clock is a moment with how long it is ago, for as long as that says more.
func Clock(t time.Time) string {
	text := t.Local().Format(time.DateTime)
	if ago := Ago(t); ago != "" {
		text += " (" + ago + ")"
	}
	return text
}

// Ago is how long ago a moment was; "" for one that is to come.
func Ago(t time.Time) string {
	ago := time.Since(t)
	switch {
	case ago < 0:
		return ""
	case ago < time.Minute:
		return fmt.Sprintf("%d s ago", int(ago.Seconds()))
	case ago < time.Hour:
		return fmt.Sprintf("%d min ago", int(ago.Minutes()))
	case ago < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(ago.Hours()))
	default:
		return fmt.Sprintf("%d days ago", int(ago.Hours())/24)
	}
}

// Bytes is so much memory, in KiB, MiB or GiB.
func Bytes(n int64) string {
	switch {
	case n < 1<<20:
		return fmt.Sprintf("%d KiB", n>>10)
	case n < 10<<30:
		return fmt.Sprintf("%d MiB", n>>20)
	default:
		return fmt.Sprintf("%d GiB", n>>30)
	}
}

// Cut is a text of at most so many bytes, of which one sees where it was longer.
func Cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}

// Until says when something ends by itself at the latest; "" where that is not known.
func Until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return ", until " + t.Local().Format(time.TimeOnly) + " at the latest"
}
