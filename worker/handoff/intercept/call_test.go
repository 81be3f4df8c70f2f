package intercept

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDecode: which call it is, and with what.
func TestDecode(t *testing.T) {
	t.Parallel()
	words := make([]byte, 12)
	for i, word := range []uint32{7, 0x8048000, 28} {
		binary.LittleEndian.PutUint32(words[4*i:], word)
	}
	read := func(at uint64, to []byte) error {
		if at != 0xfff00000 || len(to) > len(words) {
			return unix.EFAULT
		}
		copy(to, words)
		return nil
	}
	const amd64, arm64, i386 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_I386
	for name, test := range map[string]struct {
		data seccompData
		want call
		ok   bool
		err  error
	}{
		"bind":              {seccompData{nr: 49, arch: amd64, args: [6]uint64{3, 0x7fff00000000, 16}}, call{true, 3, 0x7fff00000000, 16}, true, nil},
		"bind, -1":          {seccompData{nr: 49, arch: amd64, args: [6]uint64{0xffffffff, 1, 16}}, call{true, -1, 1, 16}, true, nil},
		"listen":            {seccompData{nr: 50, arch: amd64, args: [6]uint64{3, 128}}, call{false, 3, 0, 0}, true, nil},
		"arm64 bind":        {seccompData{nr: 200, arch: arm64, args: [6]uint64{3, 1, 16}}, call{true, 3, 1, 16}, true, nil},
		"arm64 listen":      {seccompData{nr: 201, arch: arm64, args: [6]uint64{3, 1, 16}}, call{false, 3, 0, 0}, true, nil},
		"i386 bind":         {seccompData{nr: 361, arch: i386, args: [6]uint64{3, 0xffffffff00001000, 16}}, call{true, 3, 0x1000, 16}, true, nil},
		"i386 listen":       {seccompData{nr: 363, arch: i386, args: [6]uint64{3, 1}}, call{false, 3, 0, 0}, true, nil},
		"socketcall bind":   {seccompData{nr: 102, arch: i386, args: [6]uint64{2, 0xabcfff00000}}, call{true, 7, 0x8048000, 28}, true, nil},
		"socketcall listen": {seccompData{nr: 102, arch: i386, args: [6]uint64{4, 0xfff00000}}, call{false, 7, 0, 0}, true, nil},
		"socketcall, gone":  {seccompData{nr: 102, arch: i386, args: [6]uint64{2, 8}}, call{}, false, unix.EFAULT},
		"socketcall accept": {seccompData{nr: 102, arch: i386, args: [6]uint64{5, 0xfff00000}}, call{}, false, nil},
		"another":           {seccompData{nr: 43, arch: amd64, args: [6]uint64{3, 1, 16}}, call{}, false, nil},
	} {
		got, ok, err := decode(test.data, read)
		if got != test.want || ok != test.ok || !errors.Is(err, test.err) {
			t.Errorf("%s: %+v, %t, %v, want %+v, %t, %v", name, got, ok, err, test.want, test.ok, test.err)
		}
	}
}

// FuzzDecode: whatever a program calls with, and whatever is in its memory, no more is read than the arguments of socketcall(2), at the
// address that it names, and a listen names nothing to read.
func FuzzDecode(f *testing.F) {
	f.Add(int32(102), uint32(unix.AUDIT_ARCH_I386), uint64(2), uint64(0x1000), uint64(16), []byte("\x03\x00\x00\x00\x00\x10\x00\x00\x10\x00\x00\x00"))
	f.Add(int32(102), uint32(unix.AUDIT_ARCH_I386), uint64(4), uint64(0x1000), uint64(16), []byte("\x03\x00\x00\x00\x00\x10\x00\x00"))
	f.Add(int32(49), uint32(unix.AUDIT_ARCH_X86_64), uint64(3), uint64(0x1000), uint64(28), []byte{})
	f.Fuzz(func(t *testing.T, nr int32, arch uint32, first, second, third uint64, content []byte) {
		asked := 0
		read := func(at uint64, to []byte) error {
			asked++
			if at != second&0xffffffff || len(to) > 12 {
				t.Fatalf("%d bytes at %#x are read", len(to), at)
			}
			if len(content) < len(to) {
				return unix.EFAULT
			}
			copy(to, content)
			return nil
		}
		data := seccompData{nr: nr, arch: arch, args: [6]uint64{first, second, third}}
		got, ok, err := decode(data, read)
		switch {
		case ok && err != nil, !ok && got != call{}, !got.bind && (got.address != 0 || got.length != 0):
			t.Fatalf("%+v is %+v, %t, %v", data, got, ok, err)
		case asked > 0 && (arch != unix.AUDIT_ARCH_I386 || nr != i386Socketcall), asked > 1:
			t.Fatalf("%+v reads memory", data)
		case asked > 0 && ok && int32(binary.LittleEndian.Uint32(content)) != int32(got.fd):
			t.Fatalf("%+v with %x is %+v", data, content, got)
		}
	})
}

// address is a struct sockaddr_in or sockaddr_in6.
func address(text string, scope uint32) []byte {
	at := netip.MustParseAddrPort(text)
	b := binary.BigEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), at.Port())
	if at.Addr().Is4() {
		return append(append(b, at.Addr().AsSlice()...), make([]byte, 8)...)
	}
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	b = append(append(b, 0, 0, 0, 0), at.Addr().AsSlice()...)
	return binary.NativeEndian.AppendUint32(b, scope)
}

// TestParse: an address is what the kernel takes for one.
func TestParse(t *testing.T) {
	t.Parallel()
	v4, v6, local := address("127.0.0.1:80", 0), address("[2001:db8::1]:80", 7), address("[fe80::1]:80", 7)
	with := func(b []byte, more int) []byte { return append(append([]byte{}, b...), make([]byte, more)...) }
	at := func(text string) sockaddr {
		to := netip.MustParseAddrPort(text)
		family := unix.AF_INET6
		if to.Addr().Is4() {
			family = unix.AF_INET
		}
		return sockaddr{family: family, ip: to.Addr(), port: to.Port()}
	}
	scoped := at("[fe80::1]:80")
	scoped.scope = 7
	for name, test := range map[string]struct {
		b    []byte
		want sockaddr
		ok   bool
	}{
		"IPv4":                     {v4, at("127.0.0.1:80"), true},
		"IPv4, padded":             {with(v4, 112), at("127.0.0.1:80"), true},
		"IPv4, too much":           {with(v4, 113), sockaddr{}, false},
		"IPv4, short":              {v4[:15], sockaddr{}, false},
		"IPv6":                     {v6, at("[2001:db8::1]:80"), true}, // whose scope means nothing
		"IPv6, RFC 2133":           {v6[:24], at("[2001:db8::1]:80"), true},
		"IPv6, short":              {v6[:23], sockaddr{}, false},
		"link-local":               {local, scoped, true},
		"link-local without scope": {local[:24], at("[fe80::1]:80"), true},
		"half a scope":             {local[:27], at("[fe80::1]:80"), true},
		"mapped":                   {address("[::ffff:127.0.0.1]:80", 0), at("[::ffff:127.0.0.1]:80"), true},
		"unspecific":               {make([]byte, 16), sockaddr{}, false},
		"netlink":                  {append([]byte{unix.AF_NETLINK, 0}, make([]byte, 14)...), sockaddr{family: unix.AF_NETLINK}, false},
		"nothing":                  {nil, sockaddr{}, false},
	} {
		got, ok := parse(test.b)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("%s: %+v, %t", name, got, ok)
		}
	}
}

// FuzzParse: what is taken for an address is the one that these bytes are, and nothing else is taken for one.
func FuzzParse(f *testing.F) {
	f.Add(address("127.0.0.1:80", 0))
	f.Add(address("[fe80::1]:80", 3))
	f.Add(address("[::ffff:127.0.0.1]:80", 0)[:24])
	f.Fuzz(func(t *testing.T, b []byte) {
		got, ok := parse(b)
		if !ok {
			if len(b) >= 28 && len(b) <= 128 && (binary.NativeEndian.Uint16(b) == unix.AF_INET || binary.NativeEndian.Uint16(b) == unix.AF_INET6) {
				t.Fatalf("%x is an address", b)
			}
			return
		}
		again := address(netip.AddrPortFrom(got.ip, got.port).String(), got.scope)
		if got.family == unix.AF_INET6 {
			copy(again[4:8], b[4:8]) // flow information
			if len(b) < 28 || !got.ip.IsLinkLocalUnicast() {
				again = again[:24]
			}
		} else {
			again = again[:8]
		}
		if string(again) != string(b[:len(again)]) {
			t.Fatalf("%x is taken for %+v, which is %x", b, got, again)
		}
	})
}
