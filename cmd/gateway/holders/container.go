package holders

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/worker/proctree"
)

// Container is a container that a holder is in, or for which it holds the port.
type Container struct {
	Engine string // docker, podman, lxc, machine, qemu; "" where it is not known
	Name   string // or id; "" for the one that publishes the port
}

// containers are the cgroups of containers, as the engines name them.
var containers = []struct {
	engine string
	cgroup *regexp.Regexp
}{
	{"docker", regexp.MustCompile(`/docker[-/]([0-9a-f]{12})[0-9a-f]{52}`)},
	{"podman", regexp.MustCompile(`/libpod-(?:conmon-)?([0-9a-f]{12})[0-9a-f]{52}`)}, // conmon keeps a port that is published
	{"qemu", regexp.MustCompile(`/machine-qemu\\x2d\d+\\x2d([^/]+)\.scope`)},         // libvirt's, which a poweroff would cut off
	{"lxc", regexp.MustCompile(`/lxc(?:\.payload\.|/)([^/]+)`)},
	{"machine", regexp.MustCompile(`/(?:machine-|systemd-nspawn@)([^/]+)\.(?:scope|service)`)},
}

// contained returns the container of a process: by its cgroup, which everybody may read, or its PID namespace; nil for none.
// Own is the cgroup of whoever asks: what is in the same container is in none, as seen from there.
func contained(h *Holder, own string) *Container {
	for _, c := range containers {
		match := c.cgroup.FindStringSubmatch(h.Cgroup)
		if match != nil && !slices.Equal(match, c.cgroup.FindStringSubmatch(own)) {
			return &Container{Engine: c.engine, Name: match[1]}
		}
	}
	// rootlesskit is what a rootless Docker publishes ports by.
	if h.InUnit == "docker.service" && slices.Contains([]string{"docker-proxy", "dockerd", "rootlesskit"}, h.Name) {
		return &Container{Engine: "docker"}
	}
	// One that may not be asked counts as one that is not in another.
	if elsewhere, err := proctree.Elsewhere(h.PID, "pid"); err == nil && elsewhere {
		return &Container{}
	}
	return nil
}

// why is the reason for its role.
func (c *Container) why(gateway bool) string {
	what := "it is"
	if gateway {
		what = "it is an OpenClaw gateway"
	}
	switch {
	case c.Engine == "":
		return what + " in a container"
	case c.Name == "":
		return "it publishes a port of a container of " + c.Engine
	case c.Engine == "qemu":
		return what + " in the virtual machine " + c.Name
	case c.Engine == "machine":
		return what + " in the container " + c.Name
	default:
		return fmt.Sprintf("%s in the %s container %s", what, c.Engine, c.Name)
	}
}

// remedy stops the container, which would start the process again.
func (c *Container) remedy(h Holder, by Asker) Remedy {
	root := systemd.AsRoot
	name := systemd.Quote(c.Name)
	const stops = "stops its container"
	docker := func(arguments string) string {
		if manager := managerOf(h); manager.User {
			// Rootless: its own daemon, which root may ask as well.
			return by.AsOwner(manager.UID, fmt.Sprintf("docker --host unix:///run/user/%d/docker.sock %s", manager.UID, arguments))
		}
		return root(by.UID, "docker "+arguments)
	}
	switch {
	case c.Engine == "docker" && c.Name == "":
		return Remedy{docker(fmt.Sprintf("stop $(%s)", docker(fmt.Sprintf("ps --quiet --filter publish=%d", h.Wanted[0].Port())))), stops}
	case c.Engine == "docker":
		return Remedy{docker("stop " + name), stops}
	case c.Engine == "qemu":
		return Remedy{root(by.UID, "virsh shutdown "+systemd.Quote(strings.ReplaceAll(c.Name, `\x2d`, "-"))), "shuts its virtual machine down"}
	case c.Engine == "podman":
		return Remedy{managerOf(h).As(by.UID, "podman stop "+name), stops}
	case c.Engine == "lxc":
		return Remedy{root(by.UID, "lxc-stop --name "+name), stops}
	case c.Engine == "machine":
		return Remedy{root(by.UID, "machinectl poweroff "+systemd.Quote(strings.ReplaceAll(c.Name, `\x2d`, "-"))), stops}
	default:
		return Remedy{h.reclaim(by, "--force "), "ends it, until its container starts it again"}
	}
}
