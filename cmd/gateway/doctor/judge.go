package doctor

import (
	"context"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// ofDraft are the kinds that can be told of a configuration which nobody uses yet.
var ofDraft = []string{
	"worker-program-missing", "environment-unreadable", "worker-other-port", "worker-address-clash", "worker-runs-bun", "node-too-old",
	"alarm-program-missing",
}

// Judge says what of a configuration cannot work, or may not, whether a launcher runs or not: content is that of the file at
// path, which belongs to owner, for the launcher of a scope. As root it looks as the user that the service has; where there is
// no service yet, as the owner, whom it will be given. Unknown is what could not be looked at.
func Judge(ctx context.Context, scope units.Scope, path string, content []byte, owner int) (findings []Finding, unknown []Unknown) {
	g := &gatherer{facts: &Facts{Asker: holders.Me(), Executable: holders.Executable()}}
	s := Scope{Name: units.System}
	if scope == units.User {
		s = userScope(os.Geteuid())
	}
	if systemd.Booted() {
		g.as(ctx, &s, unitsStep)
		g.facts.Unknown = slices.DeleteFunc(g.facts.Unknown, func(u Unknown) bool { return !u.Essential })
	}
	if scope == units.System && !s.Service.exists() && owner > 0 {
		s.Service.User = systemd.UserName(owner)
	}
	s.Config.Path, s.Config.Draft = path, append([]byte{}, content...)
	g.as(ctx, &s, configurationStep)
	g.facts.Scopes = []Scope{s}
	findings = slices.DeleteFunc(Examine(g.facts), func(f Finding) bool { return !slices.Contains(ofDraft, f.ID) })
	return findings, g.facts.Unknown
}
