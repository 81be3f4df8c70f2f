package tree

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"openclaw-gateway/worker/cgroup"
	"openclaw-gateway/worker/proctree"
)

// killWait is how long the kernel may take to end killed processes before
// the log says that it does; they are waited for however long it takes.
const killWait = 10 * time.Second

// owner is whose a process is, which is the name of its tree and of the cgroup of
// that: one of the kinds, and a number.
type owner string

const (
	nobody   owner = ""         // nothing shows whose it is
	stranger owner = "stranger" // it was there before the launcher
)

// family is a kind of trees: what their names begin with, and the variable that has the
// number. proctree.MarkKey says besides of which launcher.
type family struct{ prefix, key string }

var (
	commands    = family{"command-", "GATEWAY_COMMAND"} // of the launcher's own
	generations = family{"generation-", "GATEWAY_GENERATION"}
	// A command comes first: it may be told a generation.
	families = []family{commands, generations}
)

func (o owner) generation() bool { return strings.HasPrefix(string(o), generations.prefix) }

// Trees are the process trees that there are.
type Trees struct {
	log *slog.Logger
	// reaper is nil when this process has other business than the worker: then
	// its orphans are not inherited, and are found by their marks.
	reaper    *Reaper
	directory string
	launcher  proctree.Process
	// HasSocket reports whether a process has one of the held sockets open, as far as that can be seen; set before the first tree. nil: that
	// cannot be asked.
	HasSocket func(pid int) bool

	mu sync.Mutex
	// group is the unit's cgroup; nil where none was delegated, or to a process
	// with other business, and the tree is found by mark and descent alone.
	group *cgroup.Group
	there map[owner]*Tree

	commands atomic.Int64 // so many there were
}

// Tree is the processes of one generation, or of one command.
type Tree struct {
	*Trees
	owner       owner
	Environment []string      // marks its processes
	group       *cgroup.Group // nil where there is none
	Outside     bool          // its main process is not born in the group, but moved there
	begun       bool          // its main process has started, or is about to
	since       uint64        // when that was, as proctree.Process.Start; 0: not known
	admitted    uint64        // since when it can have the sockets, likewise; 0: since its start
	ending      bool          // its main process has ended
	OOMKills    int           // of its processes, by the kernel for want of memory, when that has ended

	told map[proctree.Process]bool // who has had the stop signal; under mu
}

func New(log *slog.Logger, reaper *Reaper, directory string) *Trees {
	t := &Trees{log: log, reaper: reaper, directory: directory, there: map[owner]*Tree{}}
	var err error
	if t.launcher, err = proctree.Find(os.Getpid()); err != nil {
		log.Error("cannot mark the worker's processes: a successor will not recognise them", "error", err)
	}
	return t
}

// Enter prepares for generations: with a delegated cgroup the launcher moves into
// one of its own, beside theirs.
func (t *Trees) Enter() {
	if t.reaper == nil {
		return
	}
	group, err := ownGroup()
	if err != nil {
		level := slog.LevelWarn
		if errors.Is(err, cgroup.ErrNotDelegated) {
			level = slog.LevelDebug
		}
		t.log.Log(context.Background(), level, "the worker's processes are found by descent, not by cgroup", "reason", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.group = group
}

// ownGroup returns the delegated cgroup after this process has moved out of the
// generations' way.
func ownGroup() (*cgroup.Group, error) {
	group, err := unitGroup()
	if err != nil {
		return nil, err
	}
	own, err := group.Make(cgroup.LauncherName)
	if err != nil {
		return nil, err
	}
	if err := own.Enter(); err != nil {
		return nil, err
	}
	_ = group.CountMemory() // which only the status tells
	return group, nil
}

// Yield leaves the processors to the other generations as far as they want them, until it is taken back; nothing where the kernel
// does not divide their time.
func (t *Tree) Yield(yields bool) error {
	if t.group == nil {
		return nil
	}
	if yields {
		return t.group.Weigh(cgroup.Usual / 10)
	}
	return t.group.Weigh(cgroup.Usual)
}

// Cramped says why there is no room in memory for another generation like that one; "": there is, as far as can be seen.
func (t *Trees) Cramped(generation int) string {
	t.mu.Lock()
	group := t.group
	t.mu.Unlock()
	if group == nil {
		return ""
	}
	left, limited := group.Room()
	if needs := group.TakenBy(generations.prefix + strconv.Itoa(generation)); limited != "" && needs > left {
		return fmt.Sprintf("the limit of memory of %s (MemoryMax=) leaves %d MiB, and generation %d takes %d MiB: a second one would not fit", limited, left>>20, generation, needs>>20)
	}
	return ""
}

// MemoryOf is how many bytes of memory a generation of this process uses; 0 where that cannot be told.
func MemoryOf(generation int) int64 {
	group, err := cgroup.Delegated()
	if err != nil {
		return 0
	}
	return group.MemoryOf(generations.prefix + strconv.Itoa(generation))
}

// Frozen reports whether all processes of a generation of this process are stopped where they are.
func Frozen(generation int) bool {
	group, err := cgroup.Delegated()
	return err == nil && group.Frozen(generations.prefix+strconv.Itoa(generation))
}

// unitGroup returns the delegated cgroup, unless another launcher lives in it:
// that of the worker in which somebody starts this one by hand, for one.
func unitGroup() (*cgroup.Group, error) {
	group, err := cgroup.Delegated()
	if err != nil {
		return nil, err
	}
	launchers, err := group.Children(cgroup.LauncherName)
	if err != nil {
		return nil, err
	}
	for _, launcher := range launchers {
		pids, err := launcher.Processes()
		if err != nil {
			return nil, err
		}
		for _, pid := range pids {
			if pid != os.Getpid() {
				return nil, fmt.Errorf("%w alone: process %d is another launcher in it", cgroup.ErrNotDelegated, pid)
			}
		}
	}
	return group, nil
}

// plant returns a new tree, without processes yet.
func (t *Trees) plant(of family, number int) (*Tree, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	planted := &Tree{
		told: map[proctree.Process]bool{}, Trees: t, owner: owner(of.prefix + strconv.Itoa(number)),
		Environment: []string{of.key + "=" + strconv.Itoa(number), proctree.MarkKey + "=" + t.Mark()},
	}
	if t.group != nil {
		var err error
		if planted.group, err = t.group.Make(string(planted.owner)); err != nil {
			return nil, err
		}
	}
	t.there[planted.owner] = planted
	return planted, nil
}

// Apart says whether two generations can be told from each other whatever their processes do: each has a control group.
func (t *Trees) Apart() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.group != nil
}

// Generation returns the tree of a generation, without processes yet.
func (t *Trees) Generation(number int) (*Tree, error) { return t.plant(generations, number) }

// Saved is the trees for the program that takes this one's place in the process.
type Saved struct {
	Aside    map[int]uint64 `json:"aside"`
	Commands int64          `json:"commands"`
}

// Save is about trees of generations alone: a command of the launcher's own cannot be passed on.
func (t *Trees) Save() (saved Saved, err error) {
	if t.reaper != nil { // before t.mu: who reaps takes that second
		t.reaper.mu.Lock()
		saved.Aside = maps.Clone(t.reaper.aside)
		t.reaper.mu.Unlock()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for owner := range t.there {
		if !owner.generation() {
			return saved, errors.New("a command of the launcher's own runs (alarm.command)")
		}
	}
	saved.Commands = t.commands.Load()
	return saved, nil
}

// Resume takes up what was saved, before the reaper begins to reap.
func (t *Trees) Resume(saved Saved) {
	t.commands.Store(saved.Commands)
	if t.reaper != nil {
		t.reaper.resumed = true
		maps.Copy(t.reaper.aside, saved.Aside)
	}
}

// ResumeMain says, before the reaper begins to reap, that package os will wait for the main process of a generation.
func (t *Trees) ResumeMain(number, pid int) {
	t.reaper.adopt(pid, owner(generations.prefix+strconv.Itoa(number)))
}

// Adopt says that the generation's main process is another one now, for which package os waits.
func (t *Tree) Adopt(pid int) { t.reaper.adopt(pid, t.owner) }

// Waited says that package os has reaped a main process.
func (t *Trees) Waited(pid int) { t.reaper.waited(pid) }

// Len is how many trees there are.
func (t *Trees) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.there)
}

// Drop takes back a tree that has got no processes.
func (t *Tree) Drop() error {
	t.forget()
	if t.group == nil {
		return nil
	}
	return t.group.Remove()
}

func (t *Tree) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.there, t.owner)
}

// Mark is the value of proctree.MarkKey in the environment of a worker: the launcher's
// runtime directory, pid and start time.
func (t *Trees) Mark() string {
	return proctree.Mark{Directory: t.directory, Launcher: t.launcher}.String()
}

// MainEnded says that the main process has ended.
func (t *Tree) MainEnded() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ending = true
}

// End ends what is left of a tree whose main process has ended and is not reaped
// yet, and returns who that was, when nothing of it is alive.
func (t *Tree) End(main int) (strays []proctree.Process, err error) {
	defer t.forget()
	t.MainEnded()
	if t.group != nil {
		t.OOMKills = t.group.OOMKills()
		for strays, err = endGroup(t.log, t.group); starved(err); strays, err = endGroup(t.log, t.group) {
			time.Sleep(starvedPause)
		}
		if err != nil {
			t.log.Error("cannot end a cgroup", "cgroup", t.group.Name(), "error", err)
		}
	}
	// The launcher inherits every orphan, also one that has left the cgroup.
	for {
		left, reaped, err := t.left(main)
		if starved(err) {
			time.Sleep(starvedPause)
			continue
		}
		if err != nil {
			return strays, err
		}
		// One that was reaped may have started another one behind the look.
		if len(left) == 0 && reaped == 0 {
			return strays, nil
		}
		strays = append(strays, left...)
		if err := proctree.Kill(left); err != nil {
			return strays, err
		}
	}
}

// starved reports whether it takes a descriptor, and there is none. Nothing tells when there is one again, and what is left must not live
// on because of that.
func starved(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

const starvedPause = 100 * time.Millisecond

// Holds reports whether a process is one of the tree's, by what it cannot say of itself alone: it descends from the launcher,
// which inherits the orphans, or else from the main process.
func (t *Tree) Holds(pid, main int) bool {
	if t.reaper == nil {
		return proctree.Descends(pid, main)
	}
	if !proctree.Descends(pid, os.Getpid()) {
		return false
	}
	owner := t.ownerOf(pid)
	return owner == t.owner || owner == nobody && proctree.Descends(pid, main)
}

// Left returns the living processes of the tree besides its main process.
func (t *Tree) Left(main int) []proctree.Process {
	left, _, err := t.left(main)
	if err != nil {
		t.log.Error("cannot tell who is left of a generation", "error", err)
	}
	return left
}

// Processes are the living processes of the tree, its main process among them.
func (t *Tree) Processes() []int {
	if t.group != nil {
		if pids, err := t.group.Processes(); err == nil {
			return pids
		}
	}
	var pids []int
	for _, process := range t.Left(0) {
		pids = append(pids, process.PID)
	}
	return pids
}

// Freeze stops the processes of the tree where they are, or lets them go on; it takes a control group ([Trees.Apart]).
func (t *Tree) Freeze(frozen bool) error {
	if t.group == nil {
		return nil
	}
	return t.group.Freeze(frozen)
}

// Kill kills what is in the tree's control group, if it has one, all at once.
func (t *Tree) Kill() error {
	if t.group == nil {
		return nil
	}
	return t.group.Kill()
}

// Signal sends the stop signal to all processes of the tree that have not had it, besides the main process. One that forks
// meanwhile is looked at again.
func (t *Tree) Signal(main int, signal syscall.Signal) {
	for t.signal(t.Left(main), signal) {
	}
}

// signal sends it to those that have not had it, and reports whether there were any.
func (t *Tree) signal(processes []proctree.Process, signal syscall.Signal) bool {
	var untold []proctree.Process
	t.mu.Lock()
	for _, process := range processes {
		if key := (proctree.Process{PID: process.PID, Start: process.Start}); !t.told[key] {
			t.told[key] = true
			untold = append(untold, process)
		}
	}
	t.mu.Unlock()
	if err := proctree.Signal(untold, signal); err != nil {
		t.log.Warn("cannot signal what is left of a generation", "error", err)
	}
	return len(untold) > 0
}

// Linger has what the main process has left end by the signal, until nothing is left or the context is done.
func (t *Tree) Linger(ctx context.Context, main int, signal syscall.Signal) {
	for {
		left := t.Left(main)
		t.signal(left, signal)
		if len(left) == 0 || proctree.Await(ctx, left) != nil {
			return
		}
	}
}

// left returns the living processes of the tree besides its main process, and how
// many of all that had ended were reaped.
func (t *Tree) left(main int) (left []proctree.Process, reaped int, err error) {
	var living []owned
	if t.reaper != nil {
		living, reaped, err = t.reaper.reap(t.ownerOf, t.hasSocket)
	} else {
		var marked []proctree.Process
		marked, err = proctree.Marked(proctree.MarkKey, func(value string) bool { return value == t.Mark() })
		for _, process := range marked {
			living = append(living, owned{process, t.ownerOf(process.PID)})
		}
	}
	for _, process := range living {
		if process.PID != main && t.has(process) {
			left = append(left, process.Process)
		}
	}
	return left, reaped, err
}

// ownerOf tells whose a process is by its cgroup, else by its mark, whatever it has
// left.
func (t *Trees) ownerOf(pid int) owner {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.group != nil {
		for part := range strings.SplitSeq(proctree.Cgroup(pid), "/") {
			if t.there[owner(part)] != nil {
				return owner(part)
			}
		}
	}
	if mark, _ := proctree.Variable(pid, proctree.MarkKey); mark == t.Mark() {
		for _, family := range families {
			if number, marked := proctree.Variable(pid, family.key); marked {
				return owner(family.prefix + number)
			}
		}
	}
	return nobody
}

// has reports whether a process ends with the tree. What nothing connects with a
// generation, or only with one that has ended, can be any one's that had begun when it
// started, and had the sockets if it has one: it ends with the last of them that is alive.
func (t *Tree) has(process owned) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.there[process.owner] != nil || !t.owner.generation() {
		return process.owner == t.owner
	}
	if !t.ending {
		return false
	}
	for _, other := range t.there {
		if !other.owner.generation() || !other.begun || other.ending || process.Start < other.since {
			continue
		}
		if process.Start >= other.admitted || !t.hasSocket(process.PID) {
			return false
		}
	}
	return true
}

func (t *Trees) hasSocket(pid int) bool { return t.HasSocket != nil && t.HasSocket(pid) }

// Run runs a command of the launcher's own, in a tree beside the generations'. It
// returns when all that it has started has ended, which is at the latest when the
// context is done.
func (t *Trees) Run(ctx context.Context, cmd *exec.Cmd) error {
	tree, err := t.plant(commands, int(t.commands.Add(1)))
	if err != nil {
		return err
	}
	cmd.Env = Environment(cmd.Environ(), tree.Environment...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	tree.Outside = tree.RefusesBirth() // what it starts before it is moved is found by its mark
	err = tree.Start(cmd.SysProcAttr, func() (*os.Process, error) {
		err := cmd.Start()
		return cmd.Process, err
	})
	if err != nil {
		return errors.Join(err, tree.Drop())
	}
	pid := cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() {
		// All at once: whose an orphan is might be hard to tell.
		left, _, err := tree.left(0)
		if err := errors.Join(err, proctree.Kill(left), cmd.Process.Kill()); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.log.Error("cannot end a command of the launcher's own", "command", cmd.Path, "error", err)
		}
	})
	awaitExit(pid)
	stop()
	_, err = tree.End(pid)
	err = errors.Join(err, cmd.Wait())
	t.reaper.waited(pid)
	return err
}

// RefusesBirth reports whether the tree has a cgroup in which no process can be born.
func (t *Tree) RefusesBirth() bool { return t.group != nil && !t.group.Births() }

// Start has f start the main process with the attributes, in the tree's cgroup if it
// has one.
func (t *Tree) Start(attributes *syscall.SysProcAttr, f func() (*os.Process, error)) error {
	t.begin(true, 0) // before the first process of it can be seen
	err := t.start(attributes, func() (*os.Process, error) {
		process, err := f()
		if err == nil {
			if main, err := proctree.Find(process.Pid); err == nil { // else nobody's processes are older
				t.begin(true, main.Start)
			}
		}
		return process, err
	})
	if err != nil {
		t.begin(false, 0)
	}
	return err
}

// Gate says of a tree that has not begun that its processes have none of the held sockets, until Admit is called.
func (t *Tree) Gate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.admitted = math.MaxUint64
}

// Admit says that the processes of the tree can have the held sockets from now on.
func (t *Tree) Admit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.admitted = proctree.Now()
}

// Begun says that an earlier program of this process has started the main process.
func (t *Tree) Begun() { t.begin(true, 0) }

// begin says whether the tree can have processes, and since when; 0: that is not known.
func (t *Tree) begin(begun bool, since uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begun, t.since = begun, since
}

func (t *Tree) start(attributes *syscall.SysProcAttr, f func() (*os.Process, error)) error {
	if t.Outside {
		return t.reaper.start(t.owner, func() (*os.Process, error) {
			process, err := f()
			if err != nil {
				return nil, err
			}
			if err := t.group.Add(process.Pid); err != nil {
				err = errors.Join(err, process.Kill())
				_, _ = process.Wait() // killed
				return nil, err
			}
			return process, nil
		})
	}
	if t.group != nil {
		folder, err := t.group.Open()
		if err != nil {
			return err
		}
		defer folder.Close()
		attributes.UseCgroupFD, attributes.CgroupFD = true, int(folder.Fd())
	}
	return t.reaper.start(t.owner, f)
}

// awaitExit returns when a child has ended. It is not reaped: its pid stays its own.
func awaitExit(pid int) {
	for errors.Is(unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
}

// endGroup ends what is left in a generation's cgroup and removes it.
func endGroup(log *slog.Logger, group *cgroup.Group) ([]proctree.Process, error) {
	var strays []proctree.Process
	pids, err := group.Processes()
	if err != nil {
		// They are to end, whoever they are.
		log.Warn("cannot say whom a generation has left", "cgroup", group.Name(), "error", err)
	}
	for _, pid := range pids {
		if process, err := proctree.Find(pid); err == nil && !process.Zombie {
			strays = append(strays, process)
		}
	}
	if err := group.Kill(); err != nil {
		return strays, err
	}
	for {
		err := group.AwaitEmpty(killWait)
		if !errors.Is(err, cgroup.ErrPopulated) {
			if err != nil {
				return strays, err
			}
			return strays, group.Remove()
		}
		left, _ := group.Processes()
		log.Error("killed processes do not end: the kernel holds them (state D in ps)", "cgroup", group.Name(), "pids", fmt.Sprint(left))
	}
}

// Sweep ends what a launcher of this runtime directory has left that was killed,
// before anything is started, and before the launcher binds an address that one
// of those processes may still hold. Nothing is touched whose launcher lives.
func Sweep(log *slog.Logger, directory string) error {
	var errs []error
	group, err := unitGroup()
	if err == nil {
		for _, family := range families {
			groups, childrenErr := group.Children(family.prefix)
			errs = append(errs, childrenErr)
			for _, group := range groups {
				strays, err := endGroup(log, group)
				Report(log, "an earlier launcher left processes in "+group.Name()+", which were killed", 0, strays)
				errs = append(errs, err)
			}
		}
	}
	if !errors.Is(err, cgroup.ErrNotDelegated) {
		errs = append(errs, err)
	}
	var strays []proctree.Process
	for {
		left, err := proctree.Marked(proctree.MarkKey, func(value string) bool {
			mark, ok := proctree.ParseMark(value)
			return ok && mark.Directory == directory && mark.Launcher.Gone()
		})
		// A mark can get into another service's environment ("systemctl --user
		// import-environment" in a worker): that service is none of ours.
		own := proctree.Service(os.Getpid())
		left = slices.DeleteFunc(left, func(p proctree.Process) bool {
			service := proctree.Service(p.PID)
			return service != "" && service != own
		})
		strays = append(strays, left...)
		err = errors.Join(err, proctree.Kill(left))
		// Again, for what they have started meanwhile.
		if len(left) == 0 || err != nil {
			errs = append(errs, err)
			break
		}
	}
	Report(log, "an earlier launcher left processes, which were killed", 0, strays)
	return errors.Join(errs...)
}

// Report says who was left; generation is 0 for an earlier launcher's.
func Report(log *slog.Logger, message string, generation int, strays []proctree.Process) {
	if len(strays) > 0 {
		log.Warn(message, "generation", generation, "strays", len(strays), "who", Names(strays))
	}
}

// Names lists processes for a person: the first few, and how many more.
func Names(processes []proctree.Process) string {
	const most = 10
	var words []string
	for _, process := range processes[:min(len(processes), most)] {
		words = append(words, process.String())
	}
	if more := len(processes) - most; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}
