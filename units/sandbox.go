package units

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// hardenedLine is in a service that was rendered with Params.Hardened, and in no other.
const hardenedLine = "NoNewPrivileges=yes"

// What a line implies was tried with systemd 252 and 257: with User=, and in a user's scope, 252 sets no_new_privs with every
// line that a seccomp filter stands behind, which are ProtectHostname=, ProtectClock=, ProtectKernelTunables=,
// ProtectKernelModules=, ProtectKernelLogs=, PrivateDevices=, LockPersonality=, RestrictRealtime=, RestrictNamespaces=,
// RestrictAddressFamilies=, SystemCallFilter= and SystemCallArchitectures=. In a user's scope a line that needs a mount
// namespace does nothing with 252; 257 makes a user namespace for it, in which sudo is nobody's.
const (
	plainSandbox = `
# What is forbidden here is forbidden to the worker (your server) too. It keeps sudo: no line implies NoNewPrivileges= or makes a
# user namespace. "gateway install --hardened" forbids more. If your server needs something, allow it again in a drop-in.
# The worker does not get the keys that other processes of this user have in the kernel.
KeyringMode=private`

	plainSystemSandbox = `
# The worker does not reach the shared memory, semaphores and message queues of other services.
PrivateIPC=yes
# Only the worker sees what it mounts.
PrivateMounts=yes
# Nobody here loads kernel modules, sets the clock, reboots past systemd or reaches raw I/O, also not by sudo.
CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_TIME CAP_WAKE_ALARM CAP_SYS_BOOT CAP_SYS_PACCT CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_BLOCK_SUSPEND`

	hardenedSandbox = `
# gateway install --hardened: what is forbidden here is forbidden to the worker (your server) too. If it needs something, allow it
# again in a drop-in; "gateway install --hardened=false" takes everything back.
# Not possible here: MemoryDenyWriteExecute= (V8 compiles at run time), RestrictSUIDSGID= (forbids openat2),
# ProtectControlGroups= (a generation could not get its cgroup), PrivateTmp= (OpenClaw's locks are in /tmp, for all that this
# user runs), RemoveIPC= (removes what else this user runs has), RestrictNamespaces= (a browser's own sandbox needs them).
#
# No program gets rights that the worker does not have: sudo, su and everything else that is setuid fails.
` + hardenedLine + `
# The worker writes to these paths alone, to the three directories above, and to where /dev, /proc and /sys let it.
ProtectSystem=strict
ReadWritePaths=${WRITABLE}
# Files that it makes are for its user alone.
UMask=0077
# The worker does not get the keys that other processes of this user have in the kernel, nor their shared memory and queues.
KeyringMode=private
PrivateIPC=yes
# Only the worker sees what it mounts.
PrivateMounts=yes
# Other users' processes cannot be seen, and of /proc only the processes: free and uptime fail, and Node's os.cpus() is empty.
ProtectProc=invisible
ProcSubset=pid
# No devices but null, zero, full, random, urandom, tty and terminals.
DevicePolicy=closed
# /proc/sys and /sys are read-only, the host's name stays.
ProtectKernelTunables=yes
ProtectHostname=yes
# Sockets of other kinds are not made: netlink is for the addresses of this machine and for the launcher's sock_diag.
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
LockPersonality=yes
# Neither 32-bit programs, nor system calls that a service has no business with. Two are wanted besides: with both a launcher
# can hand sockets to a program that asks for none, and with seccomp a program's own sandbox begins.
SystemCallArchitectures=native
SystemCallFilter=@system-service seccomp pidfd_getfd
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM`

	// Of the socket: its manager binds, and what is forbidden here is forbidden to reclaim alone.
	socketSandbox = `
# As root it looks at what other users have made. So it changes no file and reaches neither the kernel nor devices.
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectHostname=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native`

	// In a user's scope these fail with 218/CAPABILITIES.
	hardenedSystemSandbox = `
# Its user's own service manager, or a rootless Docker, would run anything for it, outside of this sandbox.
InaccessiblePaths=-/run/user
# No capabilities, no kernel modules, no kernel log, no clock, a /dev without hardware.
CapabilityBoundingSet=
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectClock=yes
PrivateDevices=yes`
)

// sandbox returns the lines of the service that take something away from the launcher and from the worker alike.
func sandbox(p Params) (string, error) {
	switch {
	case !p.Hardened && p.Scope == System:
		return plainSandbox + plainSystemSandbox, nil
	case !p.Hardened:
		return plainSandbox, nil
	}
	lines, words := hardenedSandbox, []string{"-%h", "-/tmp", "-/var/tmp"}
	paths := p.Writable
	if p.Scope == System {
		if p.Home == "" {
			return "", errors.New("the home directory of the service's user is not known")
		}
		// There %h is root's, whatever User= says.
		lines, words, paths = lines+hardenedSystemSandbox, words[1:], append([]string{p.Home}, paths...)
	}
	for _, path := range paths {
		word, err := quote("-" + filepath.Clean(path)) // it need not be there
		if err == nil && !filepath.IsAbs(path) {
			err = errors.New("it is not absolute")
		}
		if err != nil {
			return "", fmt.Errorf("let the worker write to %q: %w", path, err)
		}
		// Who lives or works in / writes elsewhere.
		if word != "-/" && !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.ReplaceAll(lines, "${WRITABLE}", strings.Join(words, " ")), nil
}
