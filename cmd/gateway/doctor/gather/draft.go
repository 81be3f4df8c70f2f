package gather

import (
	"context"
	"os"
	"slices"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// Draft looks at a configuration that is to be used, whether a launcher runs or not: content is that of the file at
// path, which belongs to owner, for an instance of a scope. As root it looks as the user that the service has; where there is
// no service yet, as the owner, whom it will be given.
func Draft(ctx context.Context, scope units.Scope, name instance.Name, path string, content []byte, owner int) *Facts {
	g := &gatherer{facts: &Facts{Asker: holders.Me(), Executable: holders.Executable()}}
	s := Scope{Name: units.System}
	if scope == units.User {
		s = userScope(os.Geteuid())
	}
	s.Instance = name
	if systemd.Booted() {
		g.as(ctx, &s, unitsStep)
		g.facts.Unknown = slices.DeleteFunc(g.facts.Unknown, func(u Unknown) bool { return !u.Essential })
	}
	if scope == units.System && !s.Service.Exists() && owner > 0 {
		s.Service.User = systemd.UserName(owner)
	}
	s.Config.Path, s.Config.Draft = path, append([]byte{}, content...)
	g.as(ctx, &s, configurationStep)
	s.misplaced()
	g.facts.Scopes = []Scope{s}
	return g.facts
}
