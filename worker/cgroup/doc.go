// Package cgroup keeps the processes of one generation together in a control
// group of its own, below the one that systemd delegated to the unit
// (Delegate=yes), and ends them with one write, however they were forked.
//
// Only the unified hierarchy serves (cgroup2), with cgroup.kill: Linux 5.14.
package cgroup
