// Package client is a launcher as it is seen from outside: in which scope there is one, what its service manager says of it,
// and how it is asked over the control socket.
package client
