package api

// Role is what a process that has a socket open is to us.
type Role string

// The roles.
const (
	RoleSystemd  Role = "systemd"  // a service manager, which keeps sockets for socket units
	RoleLauncher Role = "launcher" // "gateway run"
	RoleWorker   Role = "worker"   // the server that a launcher started, and what descends from it
	RoleOrphan   Role = "orphan"   // an OpenClaw gateway that nobody supervises
	RoleRival    Role = "rival"    // an OpenClaw gateway that a unit keeps running
	RoleForeign  Role = "foreign"  // anybody else
)

// Intruders are the roles that should not hold an address, from bad to less bad.
var Intruders = []Role{RoleOrphan, RoleRival, RoleForeign}
