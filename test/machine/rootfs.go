package machine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	// stage is hidden by the tmpfs that carries the machine's files until it is the root. Every Linux has the directory,
	// nothing that is bound from the host lies in it, and so none has to be made and removed.
	stage      = "/sys"
	newRoot    = stage + "/root"
	notifyPath = "/run/machine-notify"
)

// becomeInit runs as PID 1 in the new namespaces: it makes the machine's file systems, lets the test prepare them, and
// becomes systemd.
func becomeInit(p *plan) error {
	if err := mountRoot(p); err != nil {
		return err
	}
	if err := setNetwork(p.DisableIPv6); err != nil {
		return err
	}
	if !p.Booted {
		if err := emptyOfHost(p); err != nil {
			return fmt.Errorf("take the host's units out: %w", err)
		}
	}
	if err := unix.Sethostname([]byte("machine")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	fmt.Println("mounted")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the test's word to start: %w", err)
	}
	console, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	for fd := range 3 {
		if err := unix.Dup3(int(console.Fd()), fd, 0); err != nil {
			return fmt.Errorf("put the console on descriptor %d: %w", fd, err)
		}
	}
	if p.NoIPv6 {
		if err := forbidIPv6(); err != nil {
			return err
		}
	}
	err = unix.Exec(p.Systemd, []string{p.Systemd, "--system"}, []string{
		"PATH=" + searchPath, "LANG=C.UTF-8", "TERM=dumb",
		// Any value makes systemd leave alone what is the host's: systemd-detect-virt(1).
		"container=machine",
		"NOTIFY_SOCKET=" + notifyPath,
	})
	return fmt.Errorf("exec %s: %w", p.Systemd, err)
}

// makeDisk has the keeper hold, in a mount namespace of its own, what outlives a boot.
func makeDisk() error {
	// Each thread has its own namespace from then on: PID 1 is cloned from the one that runs init, where this is.
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	// Nothing below may reach the host's mount table.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", stage, "tmpfs", 0, "mode=0755"); err != nil {
		return fmt.Errorf("mount the machine's disk: %w", err)
	}
	for _, dir := range []string{"upper", "work", "root"} {
		if err := os.Mkdir(filepath.Join(stage, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

func mountRoot(p *plan) error {
	steps := []struct {
		source, target, fstype string
		flags                  uintptr
		data                   string
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"overlay", newRoot, "overlay", 0, "lowerdir=" + p.Root + ",upperdir=" + stage + "/upper,workdir=" + stage + "/work"},
		{"proc", newRoot + "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		// The kernel's settings are the host's, but those of the network belong to the namespace.
		{newRoot + "/proc/sys", newRoot + "/proc/sys", "", unix.MS_BIND, ""},
		{newRoot + "/proc/sys/net", newRoot + "/proc/sys/net", "", unix.MS_BIND, ""},
		{"", newRoot + "/proc/sys", "", unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", newRoot + "/sys", "sysfs", unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"cgroup2", newRoot + "/sys/fs/cgroup", "cgroup2", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", newRoot + "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", newRoot + "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		// Not the host's /dev: journald would put its /dev/log there.
		{"tmpfs", newRoot + "/dev", "tmpfs", unix.MS_NOSUID, "mode=0755"},
	}
	for _, s := range steps {
		if err := unix.Mount(s.source, s.target, s.fstype, s.flags, s.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", s.source, s.target, err)
		}
	}
	if err := makeDev(p.Console); err != nil {
		return err
	}
	for inside, host := range p.Binds {
		if err := bind(host, newRoot+inside, true); err != nil {
			return err
		}
	}
	// pivot_root(2), and not chroot: services with a mount namespace of their own start from the namespace's root.
	if err := unix.Chdir(newRoot); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", newRoot, err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("detach the host's root: %w", err)
	}
	return unix.Chdir("/")
}

func makeDev(console string) error {
	dev := newRoot + "/dev"
	for _, node := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		if err := bind("/dev/"+node, dev+"/"+node, false); err != nil {
			return err
		}
	}
	if err := bind(console, dev+"/console", false); err != nil {
		return err
	}
	for _, m := range []struct{ fstype, dir, data string }{
		{"devpts", "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"tmpfs", "shm", "mode=1777"},
		{"mqueue", "mqueue", ""},
	} {
		target := filepath.Join(dev, m.dir)
		if err := os.Mkdir(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.fstype, target, m.fstype, unix.MS_NOSUID|unix.MS_NOEXEC, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, target, err)
		}
	}
	for name, to := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2",
	} {
		if err := os.Symlink(to, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// bind shows a file or directory of the host at target, which it makes.
func bind(source, target string, readOnly bool) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	dir := filepath.Dir(target)
	if info.IsDir() {
		dir = target
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if !info.IsDir() {
		f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o755)
		if err != nil {
			return err
		}
		f.Close()
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	if !readOnly {
		return nil
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, target, unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make %s read-only: %w", target, err)
	}
	return nil
}

// setNetwork gives the machine its loopback addresses.
func setNetwork(disableIPv6 bool) error {
	value := "0"
	if disableIPv6 {
		value = "1"
	}
	// Kernels may let a new namespace inherit these from the host (net.core.devconf_inherit_init_net).
	for _, conf := range []string{"all", "default", "lo"} {
		err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte(value), 0)
		if err != nil && !(disableIPv6 && errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("set IPv6: %w", err)
		}
	}
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	return nil
}

// emptyOfHost removes, from the overlay, what would make the machine start what the host starts. Only known wants are
// kept: a list of what to mask would have to know every package that a developer may have installed.
func emptyOfHost(p *plan) error {
	keep := []string{"systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service", "slices.target", "sockets.target"}
	if p.Users {
		keep = append(keep, "dbus.socket", "dbus.service", "dbus-broker.service", "systemd-logind.service", "systemd-user-sessions.service")
	}
	for _, pattern := range []string{
		"/etc/systemd", "/var/lib/systemd",
		"/usr/lib/systemd/system/*.wants/*", "/lib/systemd/system/*.wants/*", "/usr/local/lib/systemd/system/*.wants/*",
		"/usr/lib/systemd/user/*.wants/*", "/usr/local/lib/systemd/user/*.wants/*",
		"/usr/lib/systemd/system-generators/*", "/lib/systemd/system-generators/*", "/usr/local/lib/systemd/system-generators/*",
	} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if slices.Contains(keep, filepath.Base(path)) {
				continue
			}
			if err := os.RemoveAll(path); err != nil {
				return err
			}
		}
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	for path, content := range map[string]string{
		// An empty one would make this a first boot, which enables every unit there is: machine-id(5).
		"/etc/machine-id": hex.EncodeToString(id) + "\n",
		"/etc/hostname":   "machine\n",
		// The kernel's log and audit are the host's. The overlay forgets; volatile also leaves the host's old journals out.
		"/etc/systemd/journald.conf": "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\nRateLimitIntervalSec=0\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		// A link may lead anywhere.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for path, to := range map[string]string{
		"/etc/systemd/system/default.target": filepath.Dir(p.Systemd) + "/system/multi-user.target",
		// logind wants it, for graphics devices that are not here.
		"/etc/systemd/system/modprobe@.service": "/dev/null",
		// journald wants it.
		"/etc/systemd/system/systemd-journald-audit.socket": "/dev/null",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	return os.MkdirAll("/etc/systemd/user", 0o755)
}
