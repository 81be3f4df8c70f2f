// Package prewarm has a Node.js program load ahead the modules that an earlier life of it has loaded, before it begins, and wait
// there. What is moved ahead is code, and never state.
//
// A life that starts cold learns: a list of its modules is kept in a file, with a key that says of which program ([Program.Key]). The next
// one that is to be loaded ahead has the list examined first, by a process that is given up: modules that read, while they are evaluated,
// what the program changes only later are left out, as is whoever imports them. When it is let go on, the program begins as ever; if it changes
// something then that one of those modules has read, it stops there and says so.
package prewarm
