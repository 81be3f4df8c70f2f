package holders

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/say"
)

// Process is a process that has a socket open.
type Process struct {
	PID, PPID int
	// StartTime is in clock ticks since boot: field 22 of /proc/PID/stat, proc(5). With the PID it names one process for
	// ever.
	StartTime uint64
	// UID is the effective user.
	UID uint32
	// Name is the kernel's short name for it, "systemd" for a manager whatever its argv says.
	Name string
	// Argv is as the process gives it, and may hold secrets.
	Argv []string
	// Command is Argv for people, see say.Command.
	Command string
	// Cgroup is the path in the unified hierarchy, or in systemd's own where that is empty.
	Cgroup string
	// Unit is the last .service or .scope in Cgroup, "" if there is none. UserUnit: it belongs to a user's manager, and
	// systemctl needs --user for it.
	Unit     string
	UserUnit bool
}

// Since is when the process started, to the second: the clocks that lead there are read one after the other, and the
// answer should be the same each time.
func (p Process) Since() time.Time {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(now.Nano()))
	return boot.Add(time.Duration(p.StartTime) * time.Second / userHZ).Round(time.Second)
}

// userHZ is the clock ticks in a second of StartTime: 100 on every architecture that Go has (USER_HZ, time(7)).
const userHZ = 100

// Find describes a process, whether or not its descriptors may be read. The error is fs.ErrNotExist when there is none.
func Find(pid int) (Process, error) {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return Process{}, fmt.Errorf("look for process %d: %w", pid, err)
	}
	return describe(p)
}

// IsManager reports whether the process is systemd itself, the system's or a user's: it holds sockets for socket units.
func (p Process) IsManager() bool {
	return p.Name == "systemd" && (p.PID == 1 || p.Unit == "init.scope")
}

// Of returns, for each inode, the processes that have it open, in the order of their PIDs. Threads are not looked at: they
// share the descriptors of their process.
//
// Unseen is how many processes could not be looked into: it takes the same user and no lesser capabilities, or
// CAP_SYS_PTRACE (proc(5), ptrace(2)). As long as it is not 0 there may be more holders than those returned. A process
// in another PID namespace is neither found nor counted.
func Of(inodes ...uint64) (byInode map[uint64][]Process, unseen int, err error) {
	all, err := procfs.AllProcs()
	if err != nil {
		return nil, 0, fmt.Errorf("list the processes: %w", err)
	}
	return among(all, inodes)
}

func among(processes procfs.Procs, inodes []uint64) (byInode map[uint64][]Process, unseen int, err error) {
	byInode = make(map[uint64][]Process, len(inodes))
	wanted := make(map[string]uint64, len(inodes))
	for _, inode := range inodes {
		if inode != 0 { // a socket that belongs to no file: still in an accept queue, or in TIME_WAIT
			wanted[fmt.Sprintf("socket:[%d]", inode)] = inode
		}
	}
	if len(wanted) == 0 {
		return byInode, 0, nil
	}

	slices.SortFunc(processes, func(a, b procfs.Proc) int { return a.PID - b.PID })
	if len(processes) == 0 || processes[0].PID != 1 {
		unseen++ // mounted with hidepid=, proc(5): what is hidden cannot be counted, but PID 1 always exists
	}
	for i, s := range lookInto(processes, wanted) {
		switch err := s.err; {
		case err == nil:
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
			continue // it has ended
		case errors.Is(err, fs.ErrPermission):
			unseen++
			continue
		default:
			return nil, 0, fmt.Errorf("look into process %d: %w", processes[i].PID, err)
		}
		for link, path := range s.found {
			// Looked at again: between the two the process may have ended, and another have got its number.
			if now, _ := os.Readlink(path); now == link {
				byInode[wanted[link]] = append(byInode[wanted[link]], s.process)
			}
		}
	}
	return byInode, unseen, nil
}

// sight is what was found in a process.
type sight struct {
	found   map[string]string
	process Process // only where something was found
	err     error
}

// lookInto looks into all processes, on all processors: nearly all of it is time in the kernel, which takes a few
// microseconds for each descriptor.
func lookInto(processes procfs.Procs, wanted map[string]uint64) []sight {
	sights := make([]sight, len(processes))
	var next atomic.Int64
	var looking sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		looking.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(processes) {
					return
				}
				s := &sights[i]
				if s.found, s.err = descriptors(processes[i].PID, wanted); s.err == nil && len(s.found) > 0 {
					s.process, s.err = describe(processes[i])
				}
			}
		})
	}
	looking.Wait()
	return sights
}

// descriptors returns which of the wanted links a process has among its descriptors, each with the path of one of them. A
// descriptor that may not be read is an error here, unlike in procfs: the directory of a process of the same user with
// more capabilities can be listed, but not one link in it read.
func descriptors(pid int, wanted map[string]uint64) (map[string]string, error) {
	directory := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	d, err := os.Open(directory)
	if err != nil {
		return nil, err
	}
	defer d.Close()

	var found map[string]string
	buffer := make([]byte, 64) // longer than any "socket:[…]"; a longer path is cut off, and is no socket
	for {
		names, err := d.Readdirnames(512)
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			n, err := unix.Readlinkat(int(d.Fd()), name, buffer)
			if errors.Is(err, unix.ENOENT) {
				continue // closed meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("read %s/%s: %w", directory, name, err)
			}
			if _, ok := wanted[string(buffer[:n])]; !ok {
				continue
			}
			if found == nil {
				found = make(map[string]string, len(wanted))
			}
			found[string(buffer[:n])] = filepath.Join(directory, name)
			if len(found) == len(wanted) {
				return found, nil
			}
		}
	}
}

func describe(p procfs.Proc) (Process, error) {
	stat, err := p.Stat()
	if err != nil {
		return Process{}, err
	}
	status, err := p.NewStatus()
	if err != nil {
		return Process{}, err
	}
	argv, err := p.CmdLine()
	if err != nil {
		return Process{}, err
	}
	// Without cgroups in the kernel there is no such file, which is no reason to lose the process.
	cgroups, _ := p.Cgroups()

	path := say.Printable(cgroupPath(cgroups))
	unit, user := unitOf(path)
	return Process{
		PID:       p.PID,
		PPID:      stat.PPID,
		StartTime: stat.Starttime,
		UID:       uint32(status.UIDs[1]),
		Name:      say.Printable(stat.Comm),
		Argv:      argv,
		Command:   say.Command(stat.Comm, argv),
		Cgroup:    path,
		Unit:      unit,
		UserUnit:  user,
	}, nil
}
