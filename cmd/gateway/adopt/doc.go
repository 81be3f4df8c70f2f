// Package adopt takes over a machine's existing OpenClaw service, and gives it back: it finds the units that run an OpenClaw,
// derives ours from one of them as systemd has it, shows what it is about to do, and does it in steps that can be undone.
package adopt
