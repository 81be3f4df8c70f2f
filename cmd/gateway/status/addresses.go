package status

import (
	"context"
	"fmt"
	"os"

	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/netaddr"
)

// Wisher is who asks for an address by a user's word, a configuration or the answer of a launcher, in words; "" where that is root
// or the caller. Any address can be asked for, one of root's services too: nobody is ended because another user does.
func Wisher(uid int) string {
	switch {
	case uid == 0 || uid == os.Geteuid():
		return ""
	case uid < 0:
		return "somebody else than root"
	default:
		return "user " + systemd.UserName(uid)
	}
}

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
	if wisher := Wisher(read.Author(file.Name())); wisher != "" {
		return nil, fmt.Errorf("name the addresses: those in %s are what %s asks for, and nobody is ended for that", file.Name(), wisher)
	}
	return cfg.Listen, nil
}
