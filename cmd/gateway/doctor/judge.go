package doctor

import (
	"context"
	"slices"

	"openclaw-gateway/cmd/gateway/doctor/gather"
	"openclaw-gateway/units"
	"openclaw-gateway/units/instance"
)

// ofDraft are the kinds that can be told of a configuration which nobody uses yet.
var ofDraft = []string{
	"worker-program-missing", "environment-unreadable", "environment-doubtful", "worker-other-port", "worker-address-clash", "worker-runs-bun", "node-too-old",
	"alarm-program-missing", "unix-socket-unsafe",
}

// Judge says what of a configuration cannot work, or may not, as gather.Draft looks at it. Unknown is what could not be looked at.
func Judge(ctx context.Context, scope units.Scope, name instance.Name, path string, content []byte, owner int) (findings []Finding, unknown []gather.Unknown) {
	facts := gather.Draft(ctx, scope, name, path, content, owner)
	findings = slices.DeleteFunc(Examine(&Facts{facts}), func(f Finding) bool { return !slices.Contains(ofDraft, f.ID) })
	return findings, facts.Unknown
}
