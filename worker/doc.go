// Package worker runs the real server: one generation of it after the other,
// each of them started with the same listening sockets.
//
// A generation is one life of the worker, from its start to the end of its last
// process: a machine with a stage, a timer and a table (package generation). The
// supervisor goes from generation to generation, and is another (table.go). One
// goroutine owns both, takes one event at a time, and looks up in the table of the one
// whose event it is what it means there. The status shows the state of the generation where there is one:
//
//	           a client waits                  it answers
//	waiting ───────────────────> starting ─────────────────> ready
//	                              ^  ^  │                    │  │
//	                 retry is due │  │  │ it ended,          │  │ it ended
//	                              │  │  │ or is not ready    │  │
//	                              │  │  │ in time            │  │
//	                  backoff <───┼──┼──┴────────────────────┼──┘
//	                              │  │                       │ restart or
//	                   somebody   │  │ the old one           │ new config
//	                   asks       │  │ has ended             │
//	         failed ──────────────┘  └────── stopping <──────┘
//
// Waiting, backoff, failed and stopped are the supervisor's; with a generation it is
// running. A generation that could not start, did not become ready or crashed leads to
// backoff, or to failed when its exit code says that trying again is no use.
// A worker to which nobody has been connected for long enough is stopped as well,
// which leads back to waiting, or to stopped where somebody else waits for the
// next client. From every state the launcher's own end leads over stopping to
// stopped. What follows what stands in succession.go.
package worker
