// Package asuser has root's questions about another user answered by a child that is that user. Whatever the answer is made
// of, the user's files, managers and sockets, is reached with the rights of that user and no others, and the user can do
// nothing to root's process by it: not type on its terminal, trace it, or make it wait, read or remember without end.
//
// The child is root's own program, executed as root and dropping inside, for a process that is a user's already when it
// calls execve(2) is traced by that user before its first line. Then it is not dumpable, which only root undoes. It has a
// session, a PID namespace and an environment of its own, no descriptors but three pipes, and limits. It executes nothing,
// for whatever is executed can be traced again: a seccomp filter sees to that. What is left to the user is to stop or end it
// with a signal, and to answer it with lies, and both cost only the answer about that user.
//
// In the PID namespace the child sees nobody's pid over a socket (SO_PEERCRED, unix(7)): what is about processes root looks
// up itself, in /proc, where a pid has a uid.
//
// A question is a type of its own, with a name:
//
//	var listing = asuser.Question[request, reply]{Name: "listing", Limit: time.Second, Memory: 24 << 20}
//
//	func init() { listing.Answer(list) }
//
// The child answers in the initialisation of the package that has the question, so that every program that has it, each
// test's too, is such a child when it is asked to be one.
package asuser
