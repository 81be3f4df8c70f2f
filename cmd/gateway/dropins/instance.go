package dropins

import (
	"slices"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// IsInstance reports whether the units of a name, as a manager has them, are an instance of ours: OpenClaw calls the service of
// a profile the same, and has no socket. The default one's name is enough, whoever's its service is.
func IsInstance(name instance.Name, service, socket systemd.Properties) bool {
	if name == instance.Default {
		return true
	}
	argv := service.List("ExecStart")
	return len(argv) > 3 && slices.Equal(argv[1:4], append([]string{"run"}, name.Flag()...)) ||
		known(socket) && socket["Description"] == units.SocketDescription(name)
}

// known reports whether a manager knows a unit, which a masked one is to nobody.
func known(unit systemd.Properties) bool {
	return !slices.Contains([]string{"", "not-found", "masked"}, unit["LoadState"])
}

// Installed reports whether a manager knows the service of an instance.
func Installed(name instance.Name, service, socket systemd.Properties) bool {
	return known(service) && IsInstance(name, service, socket)
}
