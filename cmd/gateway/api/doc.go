// Package api is what goes over the control socket: HTTP and JSON between the launcher and whoever asks it. Both ends import
// it, and it imports nothing of ours. What is in it others read too: a field that is there stays.
package api
