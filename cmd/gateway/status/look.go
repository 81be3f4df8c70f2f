package status

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/cmd/gateway/client"
	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/holders"
	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/cmd/gateway/say"
	"openclaw-gateway/listener/sockdiag"
	"openclaw-gateway/netaddr"
)

// View is a status with what a person is shown besides.
type View struct {
	api.Status
	at       client.Target
	owners   map[uint64]uint32          // who made a socket, by its inode
	commands map[int]string             // all of a holder's command line, by its pid
	theirs   bool                       // it is of another user's launcher
	wisher   string                     // who asks for what is not granted, in words; "" where all is
	granted  map[uint64]netaddr.Address // where sockets are, by the kernel, that are in the way of what is granted
	closing  bool                       // the launcher is being stopped, and its socket after it
	meets    string                     // what clients meet where no launcher tells; "" where the verdict says it
}

// look completes the sockets by what the kernel tells: those that listen on the
// addresses besides ours, their queues and connections, and who has them open.
// manager is the pid of the service manager that keeps ours for the socket unit; 0
// when none does.
func (s *View) look(ctx context.Context, addresses []netaddr.Address, manager int) {
	if err := s.count(addresses); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	if err := s.findHolders(ctx, addresses, manager); err != nil {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, socket := range s.Sockets {
		if at, err := socket.At(); socket.Connections == nil && (err != nil || !at.IsUnix()) {
			s.Notes = append(s.Notes, fmt.Sprintf("connections to %s cannot be counted from here: the socket is in another network "+
				"namespace (who holds it, and how many wait, is right even so)", socket.Address))
		}
	}
	if s.Unseen > 0 {
		s.Notes = append(s.Notes, holders.UnseenNote(s.Unseen, holders.Me()))
	}
	s.SetVerdictOfHolders()
}

// count asks the kernel which sockets listen on the addresses, and for their
// queues and connections. It answers for this network namespace: what the launcher
// has said of a socket in another one stays.
func (s *View) count(addresses []netaddr.Address) error {
	s.owners, s.granted = map[uint64]uint32{}, map[uint64]netaddr.Address{}
	connections := map[netaddr.Address]*int{}
	for _, address := range addresses {
		listening, err := sockdiag.Listening(address)
		if err != nil {
			return err
		}
		for _, socket := range listening {
			i := slices.IndexFunc(s.Sockets, func(line api.Socket) bool { return line.Inode == socket.Inode })
			if i < 0 {
				i = len(s.Sockets)
				s.Sockets = append(s.Sockets, api.Socket{
					Address: say.Address(socket.Address, socket.DualStack), Inode: socket.Inode, Holders: []api.Holder{},
				})
			}
			line := &s.Sockets[i]
			s.owners[socket.Inode] = socket.UID
			if s.grants(address) {
				s.granted[socket.Inode] = socket.Address
			}
			if socket.Backlog > 0 {
				line.Queued, line.Backlog = socket.Queued, socket.Backlog
			}
			if socket.Queued > 0 && !address.IsUnix() { // since when the client of a unix socket waits the launcher alone knows
				// Not where the kernel does not tell, nor where the socket has just gone.
				if _, waits, err := sockdiag.Oldest([]sockdiag.Socket{socket}); err == nil {
					line.WaitingS = waits.Seconds()
				}
			}
			if connections[socket.Address] == nil {
				n, err := sockdiag.Connections(socket.Address)
				if err != nil {
					return err
				}
				connections[socket.Address] = &n
			}
			line.Connections = connections[socket.Address]
		}
	}
	return nil
}

// lookForFiles says of the launcher's unix sockets to which no client comes any more, because somebody has removed the file or
// put another one there.
func (s *View) lookForFiles(ours []api.Socket, t client.Target) {
	for _, socket := range ours {
		if at, err := socket.At(); err == nil && at.IsUnix() && !sockdiag.UnixAtPath(socket.Inode, at.Path()) {
			s.Problems = append(s.Problems, s.displaced(at, t))
		}
	}
}

func (s *View) displaced(at netaddr.Address, t client.Target) string {
	way := "stop \"gateway run\" and start it again"
	if s.Launcher.Holder == api.FromSystemd {
		way = "`" + t.Manager().Command(os.Geteuid(), "restart", t.Socket()) + "`"
	}
	if listening, err := sockdiag.Listening(at); err == nil && len(listening) > 0 {
		return fmt.Sprintf("somebody has put another socket in the place of %s, so no client comes to the worker: %s, when whoever has done so has ended", at, way)
	}
	return fmt.Sprintf("somebody has removed the file of %s, so no client finds it: %s", at, way)
}

// findHolders lists who has the sockets open, and says of each who should not what
// it is and what to do.
func (s *View) findHolders(ctx context.Context, addresses []netaddr.Address, manager int) error {
	var inodes []uint64
	for _, socket := range s.Sockets {
		inodes = append(inodes, socket.Inode)
	}
	known := holders.Known{Launcher: s.Launcher.PID}
	if s.wisher != "" {
		known.Launcher = 0 // nothing of theirs is ours
	}
	byInode, unseen, err := known.Holders(ctx, inodes, slices.Collect(maps.Values(s.owners))...)
	if err != nil {
		return err
	}
	s.Unseen = unseen
	var held, wished []holders.Socket
	s.commands = map[int]string{}
	for i := range s.Sockets {
		socket := &s.Sockets[i]
		socket.Holders = []api.Holder{}
		for _, holder := range byInode[socket.Inode] {
			socket.Holders = append(socket.Holders, holderStatus(holder))
			s.commands[holder.PID] = say.WholeCommand(holder.Name, holder.Argv)
		}
		if unseen > 0 && s.passedBy(*socket, addresses, manager) {
			// It keeps what it passes; only its descriptors are hidden.
			socket.Holders = slices.Insert(socket.Holders, 0, holderStatus(holders.Manager(manager)))
		}
		address, err := socket.At()
		of := &held
		if s.wisher != "" { // whose launcher may say that a socket has another address
			if at, granted := s.granted[socket.Inode]; granted {
				address, err = at, nil
			} else {
				of = &wished
			}
		}
		if err == nil {
			*of = append(*of, holders.Socket{Socket: sockdiag.Socket{Address: address}, Holders: byInode[socket.Inode]})
		}
	}
	others := slices.DeleteFunc(slices.Clone(addresses), s.grants)
	granted := slices.DeleteFunc(slices.Clone(addresses), func(a netaddr.Address) bool { return slices.Contains(others, a) })
	s.Problems = append(s.Problems, s.intruders(holders.Each(held), granted, holders.Me())...)
	s.Problems = append(s.Problems, s.intruders(holders.Each(wished), others, holders.Me())...)
	return nil
}

// grants reports whether root or the caller asks for an address: what the system's socket unit has is root's word, whoever the
// launcher is.
func (s *View) grants(address netaddr.Address) bool {
	return s.wisher == "" || !s.theirs && slices.Contains(s.at.Listen, address)
}

// passedBy reports whether it is the manager that keeps a socket, although it
// cannot be seen there: the socket is the launcher's, or the only one on an
// address of the socket unit.
func (s *View) passedBy(socket api.Socket, addresses []netaddr.Address, manager int) bool {
	if at, err := socket.At(); manager == 0 || err != nil || !slices.Contains(addresses, at) {
		return false
	}
	if slices.ContainsFunc(socket.Holders, func(h api.Holder) bool { return h.PID == manager }) {
		return false
	}
	if slices.ContainsFunc(socket.Holders, isOurs) {
		return true
	}
	sharing := 0
	for _, other := range s.Sockets {
		if other.Address == socket.Address {
			sharing++
		}
	}
	return sharing == 1
}

func isOurs(h api.Holder) bool { return h.Role == api.RoleLauncher || h.Role == api.RoleWorker }

func holderStatus(h holders.Holder) api.Holder {
	return api.Holder{
		PID: h.PID, Role: h.Role, Command: h.Command, UID: h.UID, Cgroup: h.Cgroup,
		Since: api.Moment(h.Since()), Unit: h.InUnit, Parent: h.PPID,
	}
}

// shownIntruders of a role get a sentence each.
const shownIntruders = 3

// intruders says of those who should not hold an address who, why, and what to run, the worst first.
func (s *View) intruders(all []holders.Holder, wanted []netaddr.Address, by holders.Asker) []string {
	var sentences []string
	for _, role := range api.Intruders {
		of := slices.DeleteFunc(slices.Clone(all), func(h holders.Holder) bool { return h.Role != role })
		for _, h := range of[:min(len(of), shownIntruders)] {
			sentences = append(sentences, s.intruder(h, wanted, by))
		}
		if rest := len(of) - shownIntruders; rest > 0 {
			sentences = append(sentences, fmt.Sprintf("%d more hold it as %s (--json lists them)", rest, article[role]))
		}
	}
	return sentences
}

var article = map[api.Role]string{api.RoleOrphan: "an orphan", api.RoleRival: "a rival", api.RoleForeign: "a foreign process"}

func (s *View) intruder(h holders.Holder, wanted []netaddr.Address, by holders.Asker) string {
	h.Wanted = slices.DeleteFunc(slices.Clone(wanted), func(a netaddr.Address) bool { return !slices.Contains(h.Addresses, a) })
	subject := say.Addresses(h.Addresses)
	if len(h.Wanted) == 0 && len(wanted) > 0 {
		// A wildcard, say.
		subject += ", which conflicts with " + say.Addresses(wanted) + ","
		h.Wanted = wanted[:1]
	}
	text := fmt.Sprintf("%s %s held by pid %d (%s), %s: %s; ", subject, say.Are(len(h.Addresses)), h.PID, h.Command, article[h.Role], h.Why)
	if s.wisher != "" && !slices.ContainsFunc(h.Wanted, s.grants) {
		return text + s.wisher + " asks for it"
	}
	return text + h.Remedy(by).String()
}

// lookForEdit says who has an address that a rejected edit asks for: a launcher run by hand cannot bind it, and sends whoever
// reads that here.
func (s *View) lookForEdit(ctx context.Context, t client.Target) {
	if s.Launcher.Holder != api.FromItself || s.Config.State != api.ConfigRejected {
		return
	}
	edit, err := config.Load(s.Config.Path)
	if err != nil {
		return // which the launcher has said
	}
	held := map[uint64]bool{}
	for _, socket := range s.Sockets {
		held[socket.Inode] = true
	}
	free := strings.Contains(s.Config.Error, unix.EADDRINUSE.Error())
	for _, address := range edit.Listen {
		listening, err := sockdiag.Listening(address)
		if err == nil && slices.ContainsFunc(listening, func(l sockdiag.Socket) bool { return !held[l.Inode] }) {
			s.Problems = append(s.Problems, holders.InUseFor(ctx, address, Wisher(read.Author(s.Config.Path))))
			free = false
		}
	}
	if free {
		s.Problems = append(s.Problems, "nobody else has the addresses of the edit now: `"+gatewayCommand(t, "reload")+"` applies it")
	}
}
