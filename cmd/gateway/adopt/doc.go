// Package adopt takes over a machine's existing OpenClaw service, and gives it back: it finds the units that run an OpenClaw,
// derives ours from one of them as systemd has it, and shows what it is about to do, which package steps does.
package adopt
