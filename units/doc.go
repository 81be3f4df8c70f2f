// Package units writes the two systemd units of the gateway, and takes them away again.
//
// openclaw-gateway.socket owns the listening sockets for as long as it is active; openclaw-gateway.service is the
// launcher, which systemd starts at the first connection and which inherits the sockets. A named instance has its name behind
// openclaw-gateway in both. The names are the same in system and in user scope, because OpenClaw's own verbs look for a service
// of that name, or of that with a profile's behind it.
//
// The way of a unit: [Render] makes the text from a template, [Plan] compares it with what lies in the directory,
// [Apply] writes the difference, [Remove] takes away what was written. A file is ours when its first line says so. Any
// other file of that name, OpenClaw's own unit above all, is neither overwritten nor removed.
//
// The reasons for each setting stand as comments in the templates, so that they are also there for whoever reads the
// installed unit.
package units
