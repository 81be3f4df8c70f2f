package machine

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// console is a terminal of the host that is /dev/console in the machine: systemd tells there what it starts, and why it
// could not, before there is a journal.
type console struct {
	path   string
	master *os.File
	slave  *os.File // open as long as the machine lives, or the reader would see the end each time systemd closes it

	mu  sync.Mutex
	out bytes.Buffer
}

func openConsole() (*console, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	raw, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	// Fd would make the file blocking, and Close could no longer end the read.
	var number int
	var ioctl error
	err = raw.Control(func(fd uintptr) {
		if ioctl = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); ioctl == nil {
			number, ioctl = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err == nil {
		err = ioctl
	}
	c := &console{master: master, path: fmt.Sprintf("/dev/pts/%d", number)}
	if err == nil {
		c.slave, err = os.OpenFile(c.path, os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	go c.read()
	return c, nil
}

func (c *console) read() {
	chunk := make([]byte, 4096)
	for {
		n, err := c.master.Read(chunk)
		c.mu.Lock()
		c.out.Write(chunk[:n])
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// String is what the console has shown so far.
func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.ReplaceAll(c.out.String(), "\r", "")
}

func (c *console) close() {
	c.slave.Close()
	c.master.Close()
}
