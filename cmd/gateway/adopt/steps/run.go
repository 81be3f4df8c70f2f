package steps

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"openclaw-gateway/cmd/gateway/adopt"
)

// Run shows what would be done and why, asks, and does it. What an adoption that was killed has left is put back first.
func Run(ctx context.Context, o adopt.Options) error {
	if err := goBack(ctx, o); err != nil {
		return err
	}
	if err := overwritten(ctx, o); err != nil {
		return err
	}
	plan, err := adopt.Prepare(ctx, o)
	if already := adopted(o); err != nil && already != nil { // its unit is not there any more
		err = already
	}
	if errors.Is(err, adopt.ErrNothing) {
		fmt.Fprintln(o.Out, err)
		return nil
	}
	if err != nil {
		return err
	}
	plan.Show(o.Out)
	switch {
	case o.DryRun:
		fmt.Fprintln(o.Advice, "\nnothing is changed: without --dry-run it is done")
		return nil
	case o.Yes:
	case !o.Terminal:
		return adopt.Usage("nobody is there to agree to this: say --yes, or --dry-run to see it only")
	default:
		fmt.Fprint(o.Advice, "\nGo on? [y/N] ")
		line, _ := bufio.NewReader(o.In).ReadString('\n')
		if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
			return errors.New("nothing is changed")
		}
	}
	return Execute(ctx, plan, o)
}
