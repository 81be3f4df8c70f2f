package listener

import (
	"encoding/json"
	"fmt"
	"os"

	"openclaw-gateway/sockopts"

	"golang.org/x/sys/unix"
)

// came is in which state a socket came. The kernel gives each socket a cookie that no other one has until the machine is started
// again (SO_COOKIE in socket(7)).
type came struct {
	Cookie      uint64         `json:"cookie"`
	Nonblocking bool           `json:"nonblocking"`
	Options     sockopts.State `json:"options"`
}

type cameSockets struct {
	Boot    string `json:"boot"`
	Sockets []came `json:"sockets"`
}

// Came returns in which state the sockets came, for the next launcher, which tells it here as what was kept: a launcher that is
// killed cannot restore them, and has left them with what its worker has set. Without such a text, nil, and for other sockets it
// is the state in which they are.
func (sockets Set) Came(kept []byte) (text []byte, err error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, err
	}
	var before cameSockets
	if json.Unmarshal(kept, &before) != nil || before.Boot != string(boot) {
		before.Sockets = nil
	}
	now := cameSockets{Boot: string(boot)}
	for _, s := range sockets {
		var cookie uint64
		err := s.control(func(fd int) (err error) {
			cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("tell %s from other sockets: %w", s.Address, err)
		}
		for _, c := range before.Sockets {
			if c.Cookie == cookie {
				s.nonblocking, s.options = c.Nonblocking, c.Options
			}
		}
		now.Sockets = append(now.Sockets, came{cookie, s.nonblocking, s.options})
	}
	return json.Marshal(now)
}
