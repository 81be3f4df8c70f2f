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
	Engine string // docker, podman, lxc, machine; "" where it is not known
	Name   string // or id; "" for the one that publishes the port
}

// containers are the cgroups of containers, as the engines name them.
var containers = []struct {
	engine string
	cgroup *regexp.Regexp
}{
	{"docker", regexp.MustCompile(`/docker[-/]([0-9a-f]{12})[0-9a-f]{52}`)},
	{"podman", regexp.MustCompile(`/libpod-(?:conmon-)?([0-9a-f]{12})[0-9a-f]{52}`)}, // conmon keeps a port that is published
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
	if h.InUnit == "docker.service" && (h.Name == "docker-proxy" || h.Name == "dockerd") {
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
	switch {
	case c.Engine == "docker" && c.Name == "":
		list := fmt.Sprintf("docker ps --quiet --filter publish=%d", h.Wanted[0].Port())
		return Remedy{root(by.UID, "docker stop $("+root(by.UID, list)+")"), stops}
	case c.Engine == "docker" && managerOf(h).User:
		// Rootless: its own daemon, which root may ask as well.
		uid := managerOf(h).UID
		return Remedy{by.AsOwner(uid, fmt.Sprintf("docker --host unix:///run/user/%d/docker.sock stop %s", uid, name)), stops}
	case c.Engine == "docker":
		return Remedy{root(by.UID, "docker stop "+name), stops}
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
