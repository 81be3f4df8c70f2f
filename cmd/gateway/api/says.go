package api

import "fmt"

// What STATUS= begins with while a client is awaited or a generation comes or
// goes, and what stands before the reason why an edit is not in use: "gateway
// status" knows it again where it may not ask the launcher.
const (
	SaysWaiting    = "waiting for the "
	SaysStarting   = "generation %d is starting (pid %d)"
	SaysStopping   = "generation %d is stopping (pid %d)"
	SaysRejected   = "; the edited configuration was rejected: "
	SaysRolledBack = "; the edited configuration was rolled back: "
)

// SaysOnItsWay reports whether that is what STATUS= begins with: a generation
// comes or goes.
func SaysOnItsWay(status string) bool {
	for _, phrase := range []string{SaysStarting, SaysStopping} {
		var generation, pid int
		if n, _ := fmt.Sscanf(status, phrase, &generation, &pid); n == 2 {
			return true
		}
	}
	return false
}
