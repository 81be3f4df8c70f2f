package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"openclaw-gateway/netaddr"

	"golang.org/x/sys/unix"
)

// The structures of linux/inet_diag.h; x/sys/unix does not have them. The request and its answer are all that is needed
// of the protocol, which is less than any netlink library brings.
type (
	inetDiagSockID struct {
		SourcePort, DestinationPort [2]byte // network byte order, as both addresses
		Source, Destination         [16]byte
		Interface                   uint32
		Cookie                      [2]uint32
	}

	inetDiagRequest struct { // struct inet_diag_req_v2, in its message
		Header                          unix.NlMsghdr
		Family, Protocol, Extensions, _ uint8
		States                          uint32
		ID                              inetDiagSockID
	}

	inetDiagMessage struct { // struct inet_diag_msg
		Family, State, Timer, Retransmits uint8
		ID                                inetDiagSockID
		Expires, RQueue, WQueue           uint32
		UID, Inode                        uint32
	}
)

const (
	// States of linux/tcp_states.h that are asked for by name.
	tcpEstablished   = 1
	tcpFinWait1      = 4
	tcpFinWait2      = 5
	tcpCloseWait     = 8
	tcpLastAck       = 9
	tcpListen        = 10
	tcpClosing       = 11
	tcpBoundInactive = 13 // bound and no more, since Linux 6.7

	// Attributes of linux/inet_diag.h.
	diagInfo = 2  // INET_DIAG_INFO, a struct tcp_info; comes if it is asked for
	skV6Only = 11 // INET_DIAG_SKV6ONLY, one byte
)

// sockDiag asks the kernel, with sock_diag(7), for the TCP sockets of one address family whose local port and state are
// those wanted. The bits of states are 1<<state, those of extensions 1<<(attribute-1). The answer covers the network
// namespace of the calling thread.
func sockDiag(family uint8, states uint32, port uint16, extensions uint8) ([]entry, error) {
	request := inetDiagRequest{Family: family, Protocol: unix.IPPROTO_TCP, Extensions: extensions, States: states}
	binary.BigEndian.PutUint16(request.ID.SourcePort[:], port)
	request.Header.Type, request.Header.Flags = unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST|unix.NLM_F_DUMP
	request.Header.Len = uint32(binary.Size(request))
	var entries []entry
	err := ask(request, fmt.Sprintf("port %d", port), func(data []byte) error {
		e, err := parseInetDiag(data)
		entries = append(entries, e)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// ask sends a request with its header to the kernel, and takes each entry of the answer.
func ask(request any, what string, take func(data []byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if errors.Is(err, unix.EAFNOSUPPORT) { // every kernel has it
		return fmt.Errorf("open a sock_diag socket: AF_NETLINK is forbidden (RestrictAddressFamilies=, systemd.exec(5)): %w", err)
	}
	if err != nil {
		return fmt.Errorf("open a sock_diag socket: %w", err)
	}
	defer unix.Close(fd)

	message, err := binary.Append(nil, binary.NativeEndian, request)
	if err == nil {
		err = unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return fmt.Errorf("ask sock_diag for %s: %w", what, err)
	}

	buffer := make([]byte, 64<<10) // the kernel fills at most 32 KiB at a time (netlink_dump)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return os.NewSyscallError("recvfrom sock_diag", err)
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:n])
		if err != nil {
			return fmt.Errorf("parse the answer of sock_diag: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if errno := errnoOf(m.Data); errno != 0 {
					return fmt.Errorf("ask sock_diag for %s: %w", what, errno)
				}
				return nil
			case unix.SOCK_DIAG_BY_FAMILY:
				if err := take(m.Data); err != nil {
					return err
				}
				if m.Header.Flags&unix.NLM_F_MULTI == 0 {
					return nil // it was asked for one
				}
			}
		}
	}
}

// errnoOf reads the negative errno with which the last message of an answer begins, netlink(7); 0 is success.
func errnoOf(data []byte) unix.Errno {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

func parseInetDiag(data []byte) (entry, error) {
	const size = int(unsafe.Sizeof(inetDiagMessage{}))
	if len(data) < size {
		return entry{}, fmt.Errorf("sock_diag answered with %d bytes instead of %d", len(data), size)
	}
	// A cast and not binary.Decode: there can be tens of thousands of these.
	m := (*inetDiagMessage)(unsafe.Pointer(unsafe.SliceData(data)))

	e := entry{
		Socket: Socket{
			Address: diagAddress(m.Family, m.ID.Source, m.ID.SourcePort),
			Inode:   uint64(m.Inode),
			UID:     m.UID,
		},
		ipv6:   m.Family == unix.AF_INET6,
		state:  m.State,
		remote: diagAddress(m.Family, m.ID.Destination, m.ID.DestinationPort),
		cookie: uint64(m.ID.Cookie[0]) | uint64(m.ID.Cookie[1])<<32,
	}
	if m.State == tcpListen {
		e.Queued, e.Backlog = int(m.RQueue), int(m.WQueue)
	}
	for kind, value := range attributes(data[size:]) {
		switch kind {
		case skV6Only:
			e.v6only = len(value) > 0 && value[0] != 0
		case diagInfo:
			if len(value) >= lastDataSent+4 {
				e.silent = time.Duration(binary.NativeEndian.Uint32(value[lastDataSent:])) * time.Millisecond
			}
		}
	}
	e.DualStack = m.State == tcpListen && e.ipv6 && !e.v6only && e.Address.Addr() == netip.IPv6Unspecified()
	return e, nil
}

// attributes goes through those behind the fixed part of an answer, netlink(7).
func attributes(rest []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(kind uint16, value []byte) bool) {
		for len(rest) >= unix.SizeofNlAttr {
			length := int(binary.NativeEndian.Uint16(rest))
			if length < unix.SizeofNlAttr || length > len(rest) || !yield(binary.NativeEndian.Uint16(rest[2:]), rest[unix.SizeofNlAttr:length]) {
				return
			}
			aligned := (length + unix.NLA_ALIGNTO - 1) &^ (unix.NLA_ALIGNTO - 1)
			rest = rest[min(aligned, len(rest)):]
		}
	}
}

// lastDataSent is where a struct tcp_info has tcpi_last_data_sent, in milliseconds.
const lastDataSent = int(unsafe.Offsetof(unix.TCPInfo{}.Last_data_sent))

func diagAddress(family uint8, address [16]byte, port [2]byte) netaddr.Address {
	ip := netip.AddrFrom16(address)
	if family == unix.AF_INET {
		ip = netip.AddrFrom4([4]byte(address[:4]))
	}
	return netaddr.From(ip.Unmap(), binary.BigEndian.Uint16(port[:]))
}
