package listener_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
	"openclaw-gateway/test/sockets"
)

// TestReach goes to a machine of its own: with a device and its route, an address that lies behind that, one that nothing
// leads to, and IPv6 switched off.
func TestReach(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for a network namespace of its own: make test")
	}
	before, err := listener.Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer before.File.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Error(err)
			return
		}
		const prepare = `ip link set lo up && ip link add v0 type veth peer name v1 && ip address add 10.1.0.1/24 dev v0 &&
			ip link set v0 up && ip link set v1 up && ip route add default via 10.1.0.254 &&
			echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind`
		if output, err := exec.Command("sh", "-c", prepare).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, output)
			return
		}
		for _, test := range []struct {
			address, device string
			absent, askable bool
		}{
			{"127.0.0.1:1", "", false, true},
			{"127.0.0.2:1", "", false, true},
			{"10.1.0.1:1", "", false, true},
			{"0.0.0.0:2", "", false, true},
			{"127.0.0.1:3", "lo", false, true},
			{"10.1.0.1:3", "v0", false, false},
			{"0.0.0.0:4", "v0", false, false},
			{"10.1.0.2:1", "", true, false},  // a neighbour's, perhaps
			{"192.0.2.1:1", "", true, false}, // behind the router
			{"[::1]:1", "", true, false},     // without IPv6
			{"[2001:db8::1]:1", "", true, false},
			{"[::]:2", "", false, false},
		} {
			config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) (err error) {
				_ = raw.Control(func(fd uintptr) {
					if err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1); err == nil && test.device != "" {
						err = unix.BindToDevice(int(fd), test.device)
					}
				})
				return err
			}}
			bound, err := config.Listen(context.Background(), "tcp", test.address)
			if err != nil {
				t.Errorf("%s: %v", test.address, err)
				continue
			}
			file, err := bound.(*net.TCPListener).File()
			if err != nil {
				t.Error(err)
				continue
			}
			address := netaddr.MustParse(test.address)
			set := listener.Set{before, {File: file, Address: address}}
			if absent, askable := set.Absent(address), can(set, address); absent != test.absent || askable != test.askable {
				t.Errorf("%s on device %q: absent %t, askable %t", test.address, test.device, absent, askable)
			}
			bound.Close()
			file.Close()
		}
		if set := (listener.Set{before}); set.Absent(before.Address) || can(set, before.Address) {
			t.Errorf("a socket of another network namespace: absent %t, askable %t", set.Absent(before.Address), can(set, before.Address))
		}
	}()
	<-done
}

// TestReachForbidden: where this process may have no socket of a family, it can ask nobody of it, and cannot tell that the machine
// lacks the address.
func TestReachForbidden(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root, for a filter of system calls: make test")
	}
	socket, err := listener.Bind(netaddr.MustParse("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.File.Close()
	set := listener.Set{socket}
	if set.Absent(socket.Address) || !can(set, socket.Address) {
		t.Errorf("before: absent %t, askable %t", set.Absent(socket.Address), can(set, socket.Address))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                           // and never unlocked: the thread ends with its filter
		const allow, family = unix.SECCOMP_RET_ALLOW, 16 // where the first argument is, on a little-endian machine
		filter := []unix.SockFilter{                     // as RestrictAddressFamilies= has it, without AF_INET
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_SOCKET, Jf: 3},
			{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: family},
			{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.AF_INET, Jf: 1},
			{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
			{Code: unix.BPF_RET | unix.BPF_K, K: allow},
		}
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
			t.Errorf("seccomp: %v", errno)
			return
		}
		if absent, askable := set.Absent(socket.Address), can(set, socket.Address); absent || askable {
			t.Errorf("absent %t, askable %t", absent, askable)
		}
	}()
	<-done
}

func can(set listener.Set, address netaddr.Address) bool {
	_, can := set.Reach(address)
	return can
}

// TestDualStack: one socket has the clients of both families, each with its own address, and what is asked of the kernel
// about them counts both.
func TestDualStack(t *testing.T) {
	t.Parallel()
	socket := sockets.AtFreePort(t, "0.0.0.0", func(free netaddr.Address) (*listener.Socket, error) {
		return listener.BindWith(netaddr.From(netip.IPv6Unspecified(), free.Port()), listener.Options{DualStack: true})
	})
	defer socket.File.Close()
	set, port := listener.Set{socket}, socket.Address.Port()
	if !socket.DualStack || socket.String() != fmt.Sprintf("*:%d", port) || socket.Address != netaddr.From(netip.IPv6Unspecified(), port) {
		t.Errorf("%s, dual-stack %t", socket.Address, socket.DualStack)
	}
	if target, can := set.Reach(socket.Address); !can || target.String() != fmt.Sprintf("127.0.0.1:%d", port) {
		t.Errorf("it is reached at %s, %t", target, can)
	}
	for _, dualStack := range []bool{true, false} {
		if selected, missing, _ := set.Select([]netaddr.Address{socket.Address}, dualStack); len(selected) != 1 || len(missing) > 0 {
			t.Errorf("selected with %t: %v", dualStack, selected)
		}
	}
	for _, host := range []string{"127.0.0.1", "::1"} {
		client := sockets.Dial(t, netaddr.From(netip.MustParseAddr(host), port))
		from := netaddr.Of(client.LocalAddr())
		if queued, err := set.QueuedOn(socket.Address); err != nil || queued != 1 {
			t.Errorf("%d clients wait, %v", queued, err)
		}
		if waiting, err := set.Unaccepted(netaddr.Of(client.RemoteAddr()), from); err != nil || !waiting {
			t.Errorf("a client from %s waits: %t, %v", host, waiting, err)
		}
		fd, got, err := socket.Accept()
		if err != nil || got != from {
			t.Errorf("accepted %s, %v, want %s", got, err, from)
		}
		unix.Close(fd)
	}
	// Who hangs, and who is still there, of IPv4 too.
	before := time.Now()
	waiting := sockets.Dial(t, netaddr.From(netip.MustParseAddr("127.0.0.1"), port))
	wantStall(t, stalling(t, set), socket.Address, before)
	returned := idling(t, set)
	wantBusy(t, returned, "a client of IPv4 waits")
	accept(t, socket)
	waiting.Close()
	wantIdle(t, returned, before)

	six, err := listener.Bind(netaddr.MustParse("[::]:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer six.File.Close()
	if selected, missing, unwanted := (listener.Set{six}).Select([]netaddr.Address{six.Address}, true); len(selected) > 0 || len(missing) != 1 || len(unwanted) > 0 {
		t.Errorf("one of IPv6 alone: selected %v, missing %v, unwanted %v", selected, missing, unwanted)
	}
}
