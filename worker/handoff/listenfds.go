package handoff

import (
	"cmp"
	"os"
	"strconv"
	"strings"

	"openclaw-gateway/netaddr"
)

// DefaultName is what a socket is called in LISTEN_FDNAMES where nobody has named it.
const DefaultName = "gateway"

// listenFDs follows sd_listen_fds(3).
type listenFDs []Socket

func (h listenFDs) Kind() Kind { return ListenFDs }

func (h listenFDs) Files() []*os.File {
	var files []*os.File
	for _, socket := range h {
		files = append(files, socket.File)
	}
	return files
}

func (h listenFDs) Env() []string {
	var names []string
	for _, socket := range h {
		names = append(names, cmp.Or(socket.Name, DefaultName))
	}
	return []string{"LISTEN_FDS=" + strconv.Itoa(len(h)), "LISTEN_FDNAMES=" + strings.Join(names, ":")}
}

func (h listenFDs) Shim() *Order { return &Order{ListenPID: true} }

func (h listenFDs) Started(int) {}

func (h listenFDs) Reports() *Reports { return nil }

func (h listenFDs) Pass(netaddr.Address) {}

func (h listenFDs) Release() {}

func (h listenFDs) Watch() bool { return false }

func (h listenFDs) Served() {}

func (h listenFDs) Close() error { return nil }
