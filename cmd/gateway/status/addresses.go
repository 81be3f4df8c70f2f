package status

import (
	"context"
	"fmt"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/netaddr"
)

// Addresses returns what the installed socket unit listens on, or what the
// configuration asks for where there is none.
func Addresses(ctx context.Context, of client.Choice) ([]netaddr.Address, error) {
	found := of.Targets(ctx)
	if len(found) > 1 {
		_, err := of.One(ctx)
		return nil, err
	}
	if len(found) == 1 && len(found[0].Listen) > 0 {
		return found[0].Listen, nil
	}
	file, err := FileOf(ctx, of, nil)
	if err != nil {
		return nil, err
	}
	cfg, err := file.Load()
	if err != nil {
		return nil, fmt.Errorf("name the addresses, as the configuration does not tell them: %w", err)
	}
	return cfg.Listen, nil
}
