package holders

import (
	"context"
	"fmt"

	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// AwaitFree fails unless nobody listens on the very addresses, or lets go of them by itself; the error says who has one.
func AwaitFree(ctx context.Context, addresses []netaddr.Address) error {
	for _, address := range addresses {
		left, err := sockdiag.Listening(address)
		if err != nil {
			return err
		}
		if len(left) == 0 || !left[0].Exact {
			continue
		}
		if err := AwaitForked(ctx, address); err != nil {
			return err
		}
		if left, err = sockdiag.Listening(address); err != nil {
			return err
		}
		if len(left) > 0 && left[0].Exact {
			return fmt.Errorf("%s is not free: %s", address, InUse(ctx, address))
		}
	}
	return nil
}
