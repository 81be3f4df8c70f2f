// Package test holds the tests that cross the packages: the installed product
// on a real systemd (package machine boots one for each test), with the real
// OpenClaw, with Node.js and Python programs, and with workers that misbehave.
package test
