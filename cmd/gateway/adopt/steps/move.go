package steps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"openclaw-gateway/cmd/gateway/adopt"
	"openclaw-gateway/cmd/gateway/adopt/journal"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/lazy"
)

// makeUser makes the user as whom ours runs, and finds out who that is.
func (a *adoption) makeUser(ctx context.Context) error {
	if a.Move == nil {
		return nil
	}
	if a.Move.Create {
		fmt.Fprintf(a.out, "making the user %s\n", a.Move.User)
		// Debian 12 has no HOME_MODE of its own, and a home that everybody can look into.
		if err := run(ctx, "useradd", "--create-home", "--key", "HOME_MODE=0700", "--shell", "/bin/bash", "--", a.Move.User); err != nil {
			return err
		}
	}
	uid := systemd.UserID(a.Move.User)
	if uid <= 0 {
		return fmt.Errorf("there is no user %s", a.Move.User)
	}
	a.journal.Moved = &journal.Moved{User: a.Move.User, UID: uid, Made: a.Move.Create}
	if err := a.journal.Save(); err != nil {
		return err
	}
	if !a.Move.Create {
		return nil
	}
	credential, err := systemd.Credential(uid)
	if err != nil {
		return err
	}
	a.UID, a.GID, a.DotEnvUID = uid, int(credential.Gid), uid
	for i := range a.Files {
		if a.Files[i].UID < 0 {
			a.Files[i].UID, a.Files[i].GID = a.UID, a.GID
		}
	}
	return nil
}

// copyState copies the old one's state, which runs no more. It is read by root and written by the user whose it will be: root
// follows no link of that user's.
func (a *adoption) copyState(ctx context.Context) error {
	move := a.Move
	if move == nil {
		return nil
	}
	fmt.Fprintf(a.out, "copying %s to %s, as user %s\n", move.From, move.To, move.User)
	if _, err := os.Lstat(move.To); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has come to be there meanwhile: move it away, and run this again", move.To)
	}
	a.journal.Moved.To = move.To
	if err := a.journal.Save(); err != nil {
		return err
	}
	// What nobody could look at below /root stays so, whatever its modes are and those of that user's home: tar leaves the mode of
	// the folder as it is.
	if err := runAsUser(ctx, a.journal.Moved.UID, "mkdir", "--parents", "--mode=0700", "--", move.To); err != nil {
		return err
	}
	read := exec.CommandContext(ctx, "tar", "--create", "--directory", move.From, "--", ".")
	read.SysProcAttr = apart()
	write, err := asUser(ctx, a.journal.Moved.UID, "tar", "--extract", "--directory", move.To, "--no-same-owner", "--preserve-permissions", "--no-overwrite-dir")
	if err != nil {
		return err
	}
	if err := pipe(ctx, read, write); err != nil {
		return fmt.Errorf("copy %s to %s: %w", move.From, move.To, err)
	}
	if move.Paths {
		config := filepath.Join(move.To, filepath.Base(a.OwnConfig))
		expression := "s," + escaped(move.From) + ",/" + strings.NewReplacer(`\`, `\\`, "&", `\&`, ",", `\,`).Replace(strings.TrimPrefix(move.To, "/")) + ",g"
		if err := runAsUser(ctx, a.journal.Moved.UID, "sed", "--in-place", "--follow-symlinks", "--expression", expression, "--", config); err != nil {
			return err
		}
	}
	return a.markExternal(ctx)
}

// escaped is a text as a regular expression of sed's, between commas.
func escaped(text string) string {
	return special().ReplaceAllString(text, `\$0`)
}

var special = lazy.Regexp(`[][\\.*^$,]`)

// pipe runs two commands, the first one's output being the second one's input.
func pipe(ctx context.Context, read, write *exec.Cmd) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	read.Stdout, write.Stdin = w, r
	cmds := []*exec.Cmd{read, write}
	finish := make([]func() error, len(cmds))
	for i, cmd := range cmds {
		finish[i] = start(ctx, cmd)
	}
	// Each ends when the other one has.
	_, _ = r.Close(), w.Close()
	var failed []error
	for _, finish := range finish {
		failed = append(failed, finish())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(failed...)
}

// moveBack takes away what an adoption has made for another user that has not come to its end; of one that has, it says what stays.
func moveBack(ctx context.Context, moved *journal.Moved, complete bool, o adopt.Options) error {
	if moved == nil || systemd.UserID(moved.User) != moved.UID {
		return nil
	}
	remove := []string{"userdel", "--remove", moved.User}
	switch {
	case complete && moved.Made:
		fmt.Fprintf(o.Advice, "the user %s and the state in %s stay: `%s` removes both\n", moved.User, moved.To, systemd.As(o.By.UID, 0, remove...))
	case complete && moved.To != "":
		fmt.Fprintf(o.Advice, "the state of user %s stays in %s\n", moved.User, moved.To)
	case complete:
	case moved.Made:
		return run(ctx, remove...)
	case moved.To != "":
		return runAsUser(ctx, moved.UID, "rm", "--recursive", "--force", "--", moved.To)
	}
	return nil
}
