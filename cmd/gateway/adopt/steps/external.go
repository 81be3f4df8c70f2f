package steps

import (
	"context"

	"openclaw-gateway/cmd/gateway/openclaw/dotenv"
)

// isExternal reports whether OpenClaw's own commands leave its service alone already.
func isExternal(ctx context.Context, path string, uid int) (bool, error) {
	state, err := dotenv.File{Path: path, UID: uid}.Look(ctx)
	return state.External(), err
}

func setExternal(ctx context.Context, path string, uid int) error {
	_, err := dotenv.File{Path: path, UID: uid}.Set(ctx)
	return err
}

// unsetExternal takes out what setExternal has put in, and leaves what somebody has made of it since.
func unsetExternal(ctx context.Context, path string, uid int) error {
	_, err := dotenv.File{Path: path, UID: uid}.TakeOut(ctx)
	return err
}
