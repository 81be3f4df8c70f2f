package holders

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
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
	cgroup func() *regexp.Regexp
}{
	{"docker", lazy.Regexp(`/docker[-/]([0-9a-f]{12})[0-9a-f]{52}`)},
	{"podman", lazy.Regexp(`/libpod-(?:conmon-)?([0-9a-f]{12})[0-9a-f]{52}`)}, // conmon keeps a port that is published
	{"qemu", lazy.Regexp(`/machine-qemu\\x2d\d+\\x2d([^/]+)\.scope`)},         // libvirt's, which a poweroff would cut off
	{"lxc", lazy.Regexp(`/lxc(?:\.payload\.|/)([^/]+)`)},
	{"machine", lazy.Regexp(`/(?:machine-|systemd-nspawn@)([^/]+)\.(?:scope|service)`)},
}

// publishers are the programs by which an engine has a port for its containers.
var publishers = map[string]string{
	"docker-proxy": "docker", "rootlesskit": "docker",
	"rootlessport": "podman", "rootlessport-ch": "podman", "slirp4netns": "podman", "pasta": "podman", "pasta.avx2": "podman",
}

// contained returns the container of a process: by its cgroup, which everybody may read, or its PID namespace; nil for none.
// Own is the cgroup of whoever asks: what is in the same container is in none, as seen from there.
func contained(h *Holder, own string) *Container {
	cgroup := h.Cgroup
	if !h.Manager.User { // whose user names it for themselves
		cgroup = rootsPart(cgroup)
	}
	for _, c := range containers {
		match := c.cgroup().FindStringSubmatch(cgroup)
		if match != nil && !slices.Equal(match, c.cgroup().FindStringSubmatch(own)) {
			return &Container{Engine: c.engine, Name: match[1]}
		}
	}
	// By these an engine publishes ports, in whatever unit it is: rootlesskit a rootless Docker, the others a rootless Podman.
	engine := publishers[h.Name]
	if h.Name == "dockerd" && h.InUnit == "docker.service" {
		engine = "docker"
	}
	if engine != "" && (h.Manager.User || h.UID == 0 || engine == "podman") {
		return &Container{Engine: engine}
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

// remedy stops the container, which would start the process again: by whoever runs it, who has named its control group.
func (c *Container) remedy(h Holder, by Asker) Remedy {
	manager := h.Manager
	as := func(argv ...string) string { return manager.As(by.UID, argv...) }
	docker := []string{"docker"}
	if manager.User { // rootless: its own daemon
		docker = append(docker, "--host", fmt.Sprintf("unix:///run/user/%d/docker.sock", manager.UID))
	}
	const stops = "stops its container"
	switch {
	case c.Engine == "docker" && c.Name == "":
		// One command: what a user's docker says must become no word of another's.
		stop, publishing := slices.Concat(docker, []string{"stop"}), slices.Concat(docker, []string{"ps", "--quiet", "--filter"})
		filter := fmt.Sprintf("publish=%d", h.Wanted[0].Port())
		return Remedy{as("sh", "-c", say.Shell(stop...)+" $("+say.Shell(append(publishing, filter)...)+")"), stops}
	case c.Engine == "docker":
		return Remedy{as(append(docker, "stop", c.Name)...), stops}
	case c.Engine == "qemu":
		return Remedy{as("virsh", "shutdown", strings.ReplaceAll(c.Name, `\x2d`, "-")), "shuts its virtual machine down"}
	case c.Engine == "podman" && c.Name == "":
		return Remedy{systemd.As(by.UID, int(h.UID), "podman", "ps"), "shows which container publishes it: stop that with podman stop"}
	case c.Engine == "podman":
		return Remedy{as("podman", "stop", c.Name), stops}
	case c.Engine == "lxc":
		return Remedy{as("lxc-stop", "--name", c.Name), stops}
	case c.Engine == "machine":
		return Remedy{as("machinectl", "poweroff", strings.ReplaceAll(c.Name, `\x2d`, "-")), stops}
	default:
		return Remedy{h.reclaim(by, "--force"), "ends it, until its container starts it again"}
	}
}
