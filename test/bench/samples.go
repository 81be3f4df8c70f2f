package bench

import (
	"fmt"
	"slices"
	"time"
)

// samples are measurements of one thing.
type samples []time.Duration

func (s samples) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	if len(sorted) == 0 {
		return 0
	}
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func (s samples) worst() time.Duration {
	if len(s) == 0 {
		return 0
	}
	return slices.Max(s)
}

// String is the median and the worst.
func (s samples) String() string {
	return fmt.Sprintf("%s, worst %s", short(s.median()), short(s.worst()))
}

// short has three digits, more than which no measurement here means anything.
func short(d time.Duration) string {
	switch {
	case d.Abs() >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d.Abs() >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d.Abs() >= 100*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d.Abs() >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	default:
		return fmt.Sprintf("%.1f µs", d.Seconds()*1e6)
	}
}

// ratio is how many times as much a is as b.
func ratio[T ~int64 | ~int](a, b T) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}
