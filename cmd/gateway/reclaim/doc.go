// Package reclaim frees addresses: it ends the OpenClaw gateways that hold them
// and that nobody supervises, and on demand others too. Who is what is said by
// package holders, and asked again right before each signal.
package reclaim
