package adopt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"openclaw-gateway/cmd/gateway/adopt/where"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/systemd"
	"openclaw-gateway/units"
)

// Move is what it takes to have a gateway that has run as root run as another user.
type Move struct {
	User     string
	Create   bool   // that user is to be made
	From, To string // the state directory, which is copied as that user; root's stays as it is
	Paths    bool   // OpenClaw's configuration names From, and its copy is to name To
}

// Proposed is the user as whom a gateway runs that has run as root, where nobody says another.
const Proposed = "openclaw"

// account finds out who runs it, and who is to.
func (d *derivation) account(context.Context) (err error) {
	if d.was, err = ownerOf(d.c, ""); err != nil {
		return err
	}
	if err := d.itself(d.c.Another); err != nil {
		return err
	}
	roots := d.c.scope() == units.System && d.was.UID == 0
	if roots && d.o.RunAs == "" {
		if d.o.RunAs, err = d.o.whose(d.c); err != nil {
			return err
		}
		d.proposed = d.o.RunAs == Proposed
	}
	if d.of, err = ownerOf(d.c, d.o.RunAs); err != nil && d.proposed {
		d.of, err = account{UID: unmade, GID: unmade, Name: Proposed, Home: "/home/" + Proposed}, nil
	}
	if err != nil {
		return err
	}
	d.plan.UID, d.plan.GID = d.of.UID, d.of.GID
	if d.c.scope() == units.User {
		if d.was.UID == 0 {
			d.note("OpenClaw runs as root here, and so does every command that its agents run: a user of its own is enough for it")
		}
		return nil
	}
	if d.of.UID != 0 {
		d.plan.RunAs = d.of.Name
	}
	if d.of.UID != d.was.UID && d.was.UID != 0 {
		return Usage(fmt.Sprintf("%v: %s runs as user %s, whose state it needs: --run-as is for one that runs as root", ErrUsage, d.c.described(), d.was.Name))
	}
	return nil
}

// unmade is the uid of a user who is not there yet.
const unmade = -1

// Costs of a user of its own, for people.
const moveCosts = `its state is copied for that user while it is stopped; root's stays as it is, for the way back
what its agents have done as root (packages, services, files of others) they cannot do any more
Node.js and OpenClaw have to lie where that user can read them, not below /root`

// whose asks, on a terminal, as whom a gateway of root's is to run; without one it is the user that is proposed.
func (o Options) whose(c Candidate) (string, error) {
	if !o.Terminal || o.Yes || o.DryRun {
		return Proposed, nil
	}
	fmt.Fprintf(o.Advice, "%s runs OpenClaw as root, and so every command that its agents run. A user of its own is enough for it, %s. That costs:\n  %s\n"+
		"Run it as user %[2]s, or leave it root's? [%[2]s/root] ", c.described(), Proposed, strings.ReplaceAll(moveCosts, "\n", "\n  "))
	line, _ := bufio.NewReader(o.In).ReadString('\n')
	switch answer := strings.ToLower(strings.TrimSpace(line)); answer {
	case "", Proposed:
		return Proposed, nil
	case "root":
		return answer, nil
	default:
		return "", Usage(fmt.Sprintf("%v: %q is neither %s nor root: --run-as says another user", ErrUsage, answer, Proposed))
	}
}

// moved reports whether ours runs as another user than the old one.
func (d *derivation) moved() bool { return d.of.UID != d.was.UID }

// reader is whose eyes files are looked at with: nobody's for a user who is not there yet, who will not have more rights than that.
func (d *derivation) reader() account {
	if d.of.UID != unmade {
		return d.of
	}
	const nobody = 65534
	return account{UID: nobody, GID: nobody, Name: d.of.Name, Home: d.of.Home}
}

// orRoots is the way out where the user that is proposed cannot run it.
func (d *derivation) orRoots() string {
	if !d.moved() || d.Whoever {
		return ""
	}
	o := d.o
	o.RunAs = "root"
	return fmt.Sprintf(" (as user %s; `%s` leaves it root's)", d.of.Name, o.again(d.c))
}

// movedVariables are the variables without those of the user who ran it; what lies in root's home lies in another one.
func (d *derivation) movedVariables(inline []string) (rest []string) {
	if !d.moved() {
		return inline
	}
	for _, entry := range inline {
		name, value, _ := strings.Cut(entry, "=")
		if slices.Contains([]string{"HOME", "USER", "LOGNAME"}, name) {
			continue
		}
		itsOwn := strings.Contains(name, "_STATE_DIR") || strings.Contains(name, "_CONFIG_PATH") || name == "OPENCLAW_HOME"
		if itsOwn && within(value, d.was.Home) {
			entry = name + "=" + filepath.Join(d.of.Home, strings.TrimPrefix(value, d.was.Home))
		}
		rest = append(rest, entry)
	}
	return rest
}

// ownHome refuses to move a gateway that has another home than root's: its state is there, and root's may be another one's.
func (d *derivation) ownHome(environment []string) error {
	home := where.ValueOf(environment, "HOME")
	if !d.moved() || home == "" || filepath.Clean(home) == d.was.Home {
		return nil
	}
	return fmt.Errorf("%s has a home of its own (HOME=%s), and only what is in root's is copied for user %s%s", d.c.described(), home, d.of.Name, d.orRoots())
}

// within reports whether a path is a folder or lies below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// move plans that the state of root's gateway is copied for another user, unless that one has one.
func (d *derivation) move(ctx context.Context, q question) error {
	o := d.o
	o.RunAs = d.of.Name
	switch {
	case d.Own.Found && !strings.HasPrefix(d.Own.Path, d.of.Home+"/"):
		return fmt.Errorf("user %s would use the configuration %s, which is not that user's: take the variables out of the unit that name it, and run this again", d.of.Name, d.Own.Path)
	case d.Own.Found && d.proposed:
		return fmt.Errorf("user %s has an OpenClaw of its own already, with the state in %s, of an earlier adoption perhaps: `%s` uses that as it is; to have root's copied, move it away (`%s`), and run this again",
			d.of.Name, d.Own.StateDir, o.again(d.c), systemd.As(d.o.By.UID, d.of.UID, "mv", d.Own.StateDir, d.Own.StateDir+".old"))
	case d.Own.Found:
		d.note("OpenClaw has run as root, and runs as user %s from now on, with the state that this user has in %s. Root's state stays as it is", d.of.Name, d.Own.StateDir)
		return nil
	}
	q.Home, q.Environment = d.was.Home, append(slices.Clone(q.Environment), "HOME="+d.was.Home)
	for i, entry := range q.Environment {
		if name, value, _ := strings.Cut(entry, "="); within(value, d.of.Home) {
			q.Environment[i] = name + "=" + filepath.Join(d.was.Home, strings.TrimPrefix(value, d.of.Home))
		}
	}
	q.Environ = d.environ()
	roots, err := askFacts(ctx, d.was, q)
	switch {
	case err != nil:
		return fmt.Errorf("what %s starts could not be looked at as user %s: %w", d.c.described(), d.was.Name, err)
	case roots.Refused != "":
		return fmt.Errorf("%s cannot be adopted: %s", d.c.described(), strings.TrimSuffix(roots.Refused, "."))
	case !within(roots.Own.StateDir, d.was.Home) || !within(roots.Own.Path, roots.Own.StateDir):
		return fmt.Errorf("%s has its state in %s and its configuration in %s, and only what is in root's home is copied for user %s%s",
			d.c.described(), roots.Own.StateDir, roots.Own.Path, d.of.Name, d.orRoots())
	}
	from := roots.Own.StateDir
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("root has no OpenClaw state that could be copied for user %s (%s is not there)%s", d.of.Name, from, d.orRoots())
	}
	to := filepath.Join(d.of.Home, strings.TrimPrefix(from, d.was.Home))
	if there(to) {
		return fmt.Errorf("%s is there already, without a configuration: move it away, and run this again%s", to, d.orRoots())
	}
	move := &Move{User: d.of.Name, Create: d.of.UID == unmade, From: from, To: to}
	d.Own = roots.Own
	d.Own.StateDir, d.Own.Path = to, filepath.Join(to, strings.TrimPrefix(roots.Own.Path, from))
	d.plan.Move = move
	if text, _, err := read.File(roots.Own.Path, read.ConfigLimit); err == nil {
		move.Paths = strings.Contains(string(text), from)
		if rest := strings.ReplaceAll(string(text), from, ""); strings.Contains(rest, d.was.Home+"/") {
			d.note("%s names files below %s, which user %s cannot read: they are not copied", roots.Own.Path, d.was.Home, d.of.Name)
		}
	}
	d.tellMove(*move)
	return nil
}

func (d *derivation) tellMove(move Move) {
	made := ""
	if move.Create {
		made = ", who is made for it"
	}
	d.note("OpenClaw has run as root, and so has every command that its agents run. From now on it runs as user %s%s, with a copy of %s in %s", move.User, made, move.From, move.To)
	for cost := range strings.Lines(moveCosts) {
		d.note("that costs: %s", strings.TrimSpace(cost))
	}
	if move.Paths {
		d.note("where the configuration names %s, its copy names %s", move.From, move.To)
	}
	if said := d.p["WorkingDirectory"]; within(strings.TrimPrefix(said, "!"), d.was.Home) {
		d.plan.Lost = append(d.plan.Lost, Note{What: "WorkingDirectory=" + said, Why: "it is root's: the worker starts in the home of its user"})
	}
	o := d.o
	o.RunAs = "root"
	d.note("to leave it root's: `%s`", o.again(d.c))
}
