// Package intercept gives listening sockets to a program that knows nothing of it. The program binds its address and listens, as
// always; a filter of seccomp(2), which the shim has installed, makes the kernel ask here first (seccomp_unotify(2)), and the held
// socket is put in the place of the program's own.
//
//	worker: bind(fd, address) ──kernel──> Interceptor: look at the caller's memory and socket
//	                                          not ours: the kernel goes on with the call, as if nobody had asked
//	                                          ours:     mode, options and watches carried over, our socket at fd, 0
//
// What is ours, and what is not, is in rules.go. Everything that can be wrong with a call is left to the kernel to say: a call that is not
// ours beyond doubt goes on. The program can change its memory and its descriptors at any moment, so what was read once is what
// counts, and nothing is ever given but a held socket, to a program that was started to get it.
//
// The filter is inherited by all that the program starts. Each generation has its own, so which one asks needs no looking up.
package intercept
