// Package metrics writes what a status has as Prometheus' text format, version 0.0.4, which node_exporter reads from files.
//
// It is written by hand: with client_golang 1.25 the program is 1.9 MB larger, and the launcher, which has no use for it,
// needs 1.7 MB more, of pages that the initialisation of protobuf touches.
package metrics
