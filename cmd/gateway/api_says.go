package main

import "fmt"

// What STATUS= begins with while a client is awaited or a generation comes or
// goes, and what stands before the reason why an edit is not in use: "gateway
// status" knows it again where it may not ask the launcher.
const (
	saysWaiting    = "waiting for the "
	saysStarting   = "generation %d is starting (pid %d)"
	saysStopping   = "generation %d is stopping (pid %d)"
	saysRejected   = "; the edited configuration was rejected: "
	saysRolledBack = "; the edited configuration was rolled back: "
)

// saysOnItsWay reports whether that is what STATUS= begins with: a generation
// comes or goes.
func saysOnItsWay(status string) bool {
	for _, phrase := range []string{saysStarting, saysStopping} {
		var generation, pid int
		if n, _ := fmt.Sscanf(status, phrase, &generation, &pid); n == 2 {
			return true
		}
	}
	return false
}
