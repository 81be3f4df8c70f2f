package api

import "fmt"

// What STATUS= begins with while a client is awaited or a generation comes or
// goes, and what stands before the reason why an edit is not in use: "gateway
// status" knows it again where it may not ask the launcher.
const (
	SaysWaiting    = "waiting for the "
	SaysStarting   = "generation %d is starting (pid %d)"
	SaysStopping   = "generation %d is stopping (pid %d)"
	SaysHung       = "generation %d hangs (pid %d)"
	SaysRejected   = "; the edited configuration was rejected: "
	SaysRolledBack = "; the edited configuration was rolled back: "
)

// SaysOnItsWay reports whether that is what STATUS= begins with: a generation
// comes or goes.
func SaysOnItsWay(status string) bool {
	return begins(status, SaysStarting) || begins(status, SaysStopping)
}

// SayHung is the sentence about a worker that does not serve although it is ready, with the detail of why that is said.
func SayHung(generation, pid int, detail string) string {
	return fmt.Sprintf(SaysHung, generation, pid) + ": " + detail + "; `gateway restart` replaces it"
}

// SaysHangs reports whether STATUS= says that the worker does not serve although it is ready.
func SaysHangs(status string) bool { return begins(status, SaysHung) }

func begins(status, phrase string) bool {
	var generation, pid int
	n, _ := fmt.Sscanf(status, phrase, &generation, &pid)
	return n == 2
}
