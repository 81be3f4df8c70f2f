package handoff

import (
	"os"
	"strconv"
	"strings"
)

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
	// The name that the socket unit gives (FileDescriptorName=).
	names := strings.TrimSuffix(strings.Repeat("gateway:", len(h)), ":")
	return []string{"LISTEN_FDS=" + strconv.Itoa(len(h)), "LISTEN_FDNAMES=" + names}
}

func (h listenFDs) Shim() *Order { return &Order{ListenPID: true} }

func (h listenFDs) Started(int) {}

func (h listenFDs) Reports() *Reports { return nil }

func (h listenFDs) Release() {}

func (h listenFDs) Close() error { return nil }
