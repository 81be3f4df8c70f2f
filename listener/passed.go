package listener

import (
	"fmt"

	"openclaw-gateway/passed"
	"openclaw-gateway/sockopts"
)

// Passed is a socket for the program that takes this one's place in the process.
type Passed struct {
	FD          int            `json:"fd"`
	Name        string         `json:"name"`
	Nonblocking bool           `json:"nonblocking"` // in which mode, and with which options it came
	Options     sockopts.State `json:"options"`
	Backlog     int            `json:"backlog"` // 0: Backlog
	Dead        bool           `json:"dead"`
}

// Pass passes the sockets on.
func (sockets Set) Pass(files *passed.Files) (all []Passed, err error) {
	for _, s := range sockets {
		fd, err := files.Add(s.File)
		if err != nil {
			return nil, err
		}
		all = append(all, Passed{fd, s.Name, s.nonblocking, s.options, int(s.backlog.Load()), s.dead.Load()})
	}
	return all, nil
}

// TakePassed takes sockets that were passed on. They are the same ones, whatever their worker has made of them.
func TakePassed(all []Passed) (sockets Set, err error) {
	for _, p := range all {
		file, err := passed.TakeShared(p.FD, p.Name)
		if err != nil {
			return nil, err
		}
		s, err := newSocket(file)
		if err != nil {
			return nil, fmt.Errorf("descriptor %d, which was passed, %w", p.FD, err)
		}
		s.Name, s.nonblocking, s.options = p.Name, p.Nonblocking, p.Options
		s.backlog.Store(int32(p.Backlog))
		s.dead.Store(p.Dead)
		sockets = append(sockets, s)
	}
	return sockets, nil
}
