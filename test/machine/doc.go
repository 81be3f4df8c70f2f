// Package machine boots a real systemd for one test, in namespaces of its own, so that a test can install units, add
// users, kill what it likes and crash the service manager without the host noticing. It needs root, nsenter, a systemd
// of any version that speaks cgroup2, and kernel 5.14 or later (cgroup.kill); PID 1 of the host need not be systemd.
//
// A machine sees the host's root file system, or that of [Options.Root], below an overlay whose upper layer is a tmpfs:
// what is installed in it is there, and whatever the test writes vanishes with it. Of the host only the root mount shows; a
// file below another mount, and everything below /tmp, /run, /dev, /proc and /sys, which are fresh, needs an entry in
// [Options.Binds]. The host's own units and settings (/etc/systemd, vendor wants, generators, lingering users) are taken
// out: a machine starts journald, what the test has enabled and, with [Options.Users], dbus and logind.
//
// How it comes up and goes down:
//
//	test binary ──lifeline──> keeper ──clone──> PID 1: mounts, waits for Prepare, execs systemd ──READY=1──> test binary
//
// The keeper is the test binary executed again (see keeper.go). It ends the machine and removes its cgroup directories
// when the lifeline closes: at the end of the test, and however else the test binary may die, SIGKILL included. It holds the
// overlay's upper layer, so that a machine that is rebooted ([Machine.Reboot], [Machine.CutPower]) comes back with what was written.
// One that is powered off from inside ends.
//
// Process ids come in two kinds. What systemd says (MainPID) counts inside the machine; [Process] has both.
package machine
