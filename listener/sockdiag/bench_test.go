package sockdiag

import (
	"testing"
)

func BenchmarkListening(b *testing.B) {
	addr, _ := crowd(b)
	for b.Loop() {
		if found, err := Listening(addr); err != nil || len(found) != 1 {
			b.Fatal(found, err)
		}
	}
}

func BenchmarkConnections(b *testing.B) {
	addr, pairs := crowd(b)
	b.ReportMetric(float64(pairs), "connections")
	for b.Loop() {
		if n, err := Connections(addr); err != nil || n != pairs {
			b.Fatal(n, err)
		}
	}
}
