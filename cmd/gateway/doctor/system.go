package doctor

import (
	"fmt"
	"maps"
	"math"
	"strings"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/cmd/gateway/kernel"
	"openclaw-gateway/cmd/gateway/say"
)

// oldestSystemd is the oldest version that the units were tried on (Debian 12).
const oldestSystemd = 252

func systemdOld(f *Facts) []Finding {
	if f.Systemd == 0 || f.Systemd >= oldestSystemd {
		return nil
	}
	return []Finding{{
		Summary: fmt.Sprintf("systemd is version %d, and the units need %d, as Debian 12, Ubuntu 22.10, RHEL 9.2 and later have: "+
			"until then the launcher can be run by hand", f.Systemd, oldestSystemd),
		Evidence: map[string]any{"version": f.Systemd, "needs": oldestSystemd},
		Fix:      say.Shell(f.Program, "run"),
	}}
}

func kernelOld(f *Facts) []Finding {
	if len(f.KernelLacks) == 0 {
		return nil
	}
	summary := fmt.Sprintf("Linux %s lacks %s", f.Kernel, strings.Join(f.KernelLacks, ", "))
	evidence := map[string]any{"release": f.Kernel, "lacks": f.KernelLacks}
	if len(f.KernelLacks) > 1 || f.KernelLacks[0] != kernel.SeccompNotify {
		return []Finding{{
			Summary:  summary + ": boot Linux 5.14 or later, with cgroup2, as Debian 12, Ubuntu 22.04, RHEL 9 and later have it",
			Evidence: evidence, Fix: "uname -r",
		}}
	}
	var findings []Finding
	for _, s := range f.Which((*gather.Scope).Intercepts) {
		findings = append(findings, Finding{
			Summary:  summary + ": make " + s.Line("worker.handoff") + " auto",
			Evidence: inScope(s, maps.Clone(evidence)), Fix: f.edit(s), theirs: f.Theirs(s), about: []*gather.Scope{s},
		})
	}
	return findings
}

func backlogSmall(f *Facts, s *gather.Scope) *Finding {
	// A Node.js worker shrinks the queue when it listens; the launcher mends that
	// when the worker is ready.
	if s.Launcher != nil && s.Launcher.Worker.State != api.StateReady && s.Launcher.Worker.State != api.StateWaiting {
		return nil
	}
	for _, address := range s.Socket.Listen {
		socket := f.Exactly(address)
		want := s.Socket.Backlog
		if f.Somaxconn > 0 {
			want = min(want, f.Somaxconn)
		}
		if !s.Socket.Active() || socket == nil || socket.Backlog == 0 || socket.Backlog >= want {
			continue
		}
		return &Finding{
			Summary:  fmt.Sprintf("only %d clients can wait on %s, and %s says %d", socket.Backlog, address, s.OfScope(s.Instance.Socket()), s.Socket.Backlog),
			Evidence: map[string]any{"address": address.String(), "backlog": socket.Backlog, "unit": s.Socket.Backlog, "somaxconn": f.Somaxconn},
			Fix:      f.gateway(s, "restart"),
		}
	}
	return nil
}

func somaxconnSmall(f *Facts, s *gather.Scope) *Finding {
	// As many as the kernel takes is what systemd says where a unit says nothing, or is not there.
	if f.Somaxconn == 0 || s.Socket.Backlog <= f.Somaxconn || s.Socket.Backlog == math.MaxInt32 {
		return nil
	}
	finding := &Finding{
		Summary:  fmt.Sprintf("the kernel lets only %d clients wait, and %s says %d", f.Somaxconn, s.OfScope(s.Instance.Socket()), s.Socket.Backlog),
		Evidence: map[string]any{"somaxconn": f.Somaxconn, "unit": s.Socket.Backlog},
		Fix:      f.asRoot("sysctl", "-w", fmt.Sprintf("net.core.somaxconn=%d", s.Socket.Backlog)),
	}
	if f.Theirs(s) { // who may ask for any number
		finding.Fix, finding.theirs = f.systemctl(s.Manager, "edit", s.Instance.Socket()), true
		finding.Summary += ": Backlog= can say less"
	}
	return finding
}

func noLinger(f *Facts, s *gather.Scope) *Finding {
	if !s.SessionsOnly {
		return nil
	}
	return &Finding{
		Summary:  fmt.Sprintf("the units of user %s end with the last session, and start with the first", s.User),
		Evidence: map[string]any{"linger": false},
		// Without polkit, as on a small server, not even one's own: "Access denied".
		Fix: f.asRoot("loginctl", "enable-linger", s.User),
	}
}
