package reclaim

import (
	"context"
	"fmt"
	"net/netip"

	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/systemd"
)

// Hint names the command that frees the address if an orphan holds it, and
// else what holders.InUse says.
func Hint(ctx context.Context, address netip.AddrPort) string {
	sockets, _, err := holders.Known{}.Keeping(ctx, address)
	if err == nil {
		for _, socket := range sockets {
			for _, holder := range socket.Holders {
				if holder.Role == holders.Orphan {
					return fmt.Sprintf("%s is held by %s: `gateway reclaim %s` ends it", address, describeHolder(Keeper{Holder: holder}), systemd.Quote(address.String()))
				}
			}
		}
	}
	return holders.InUse(address)
}
