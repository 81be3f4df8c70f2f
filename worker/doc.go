// Package worker runs the real server: one generation of it after the other,
// each of them started with the same listening sockets.
//
// A generation is one life of the worker, from its start to the end of its last
// process. The supervisor goes from generation to generation: one goroutine
// owns all state, takes one event at a time, and looks up in a table what it
// means in the present state. The states, and what leads from one to another:
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
// A generation that could not start, did not become ready or crashed leads to
// backoff, or to failed when its exit code says that trying again is no use.
// A worker to which nobody has been connected for long enough is stopped as well,
// which leads back to waiting, or to stopped where somebody else waits for the
// next client. From every state the launcher's own end leads over stopping to
// stopped.
package worker
