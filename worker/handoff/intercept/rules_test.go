package intercept

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMatch: the rules about addresses, those beside which edges_test.go has no kernel's word too.
func TestMatch(t *testing.T) {
	t.Parallel()
	const here, mptcp, sctp = 1, unix.IPPROTO_MPTCP, unix.IPPROTO_SCTP
	hold := func(ip string, change func(*held)) *held {
		h := &held{traits: traits{ip: netip.MustParseAddr(ip), port: 80, namespace: here, v6only: true}}
		if change != nil {
			change(h)
		}
		return h
	}
	dual := func(h *held) { h.v6only = false }
	v4, any4, v6, any6, both := hold("127.0.0.1", nil), hold("0.0.0.0", nil), hold("::1", nil), hold("::", nil), hold("::", dual)
	local := hold("fe80::1", func(h *held) { h.scope = 2 })
	bound := hold("127.0.0.1", func(h *held) { h.device = 3 })
	for name, test := range map[string]struct {
		held        []*held
		asks        string
		own         func(*traits, *sockaddr)
		ours, clash *held
	}{
		"the same":                        {[]*held{v4, v6}, "127.0.0.1:80", nil, v4, nil},
		"the same, the second":            {[]*held{v4, v6}, "[::1]:80", nil, v6, nil},
		"MPTCP":                           {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.protocol = mptcp }, v4, nil},
		"SCTP":                            {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.protocol = sctp }, nil, nil},
		"UDP":                             {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.kind = unix.SOCK_DGRAM }, nil, nil},
		"another port":                    {[]*held{v4}, "127.0.0.1:81", nil, nil, nil},
		"another address":                 {[]*held{v4}, "127.0.0.2:80", nil, nil, nil},
		"another namespace":               {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.namespace = 2 }, nil, nil},
		"bound":                           {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.port = 1 }, nil, nil},
		"of another family":               {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.domain = unix.AF_INET6 }, nil, nil},
		"port 0":                          {[]*held{v4}, "127.0.0.1:0", nil, nil, nil},
		"bound to a device":               {[]*held{v4}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.device = 3 }, nil, nil},
		"to the same device":              {[]*held{bound}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.device = 3 }, bound, nil},
		"to another device":               {[]*held{bound}, "127.0.0.1:80", func(t *traits, _ *sockaddr) { t.device = 4 }, nil, nil},
		"the launcher's device":           {[]*held{bound}, "127.0.0.1:80", nil, bound, nil},
		"mapped":                          {[]*held{v4}, "[::ffff:127.0.0.1]:80", nil, v4, nil},
		"mapped, v6only":                  {[]*held{v4}, "[::ffff:127.0.0.1]:80", func(t *traits, _ *sockaddr) { t.v6only = true }, nil, nil},
		"mapped wildcard":                 {[]*held{any4}, "[::ffff:0.0.0.0]:80", nil, any4, nil},
		"link-local":                      {[]*held{local}, "[fe80::1]:80", func(_ *traits, a *sockaddr) { a.scope = 2 }, local, nil},
		"link-local elsewhere":            {[]*held{local}, "[fe80::1]:80", func(_ *traits, a *sockaddr) { a.scope = 3 }, nil, nil},
		"link-local without a scope":      {[]*held{local}, "[fe80::1]:80", nil, nil, nil},
		"dual for v6only":                 {[]*held{any6}, "[::]:80", nil, any6, nil},
		"v6only for v6only":               {[]*held{any6}, "[::]:80", func(t *traits, _ *sockaddr) { t.v6only = true }, any6, nil},
		"dual for dual":                   {[]*held{both}, "[::]:80", nil, both, nil},
		"v6only for dual":                 {[]*held{both}, "[::]:80", func(t *traits, _ *sockaddr) { t.v6only = true }, nil, both},
		"dual for both, never IPv4's":     {[]*held{any4, any6}, "[::]:80", nil, any6, nil},
		"IPv4's for both":                 {[]*held{any6, any4}, "0.0.0.0:80", nil, any4, nil},
		"all of IPv4 for dual":            {[]*held{both}, "0.0.0.0:80", nil, nil, both},
		"one of IPv4 for dual":            {[]*held{both}, "127.0.0.1:80", nil, nil, both},
		"all of IPv4 for v6only":          {[]*held{any6}, "0.0.0.0:80", nil, nil, nil},
		"all for one of IPv4":             {[]*held{v4}, "0.0.0.0:80", nil, nil, v4},
		"one for all of IPv4":             {[]*held{any4}, "127.0.0.1:80", nil, nil, any4},
		"dual for one of IPv4":            {[]*held{v4}, "[::]:80", nil, nil, v4},
		"v6only for one of IPv4":          {[]*held{v4}, "[::]:80", func(t *traits, _ *sockaddr) { t.v6only = true }, nil, nil},
		"v6only for one of IPv6":          {[]*held{v6}, "[::]:80", func(t *traits, _ *sockaddr) { t.v6only = true }, nil, v6},
		"mapped of one for all of IPv4":   {[]*held{any4}, "[::ffff:127.0.0.1]:80", nil, nil, any4},
		"one of IPv6 for v6only wildcard": {[]*held{any6}, "[::1]:80", nil, nil, any6},
	} {
		at := netip.MustParseAddrPort(test.asks)
		asked := sockaddr{family: unix.AF_INET6, ip: at.Addr(), port: at.Port()}
		if at.Addr().Is4() {
			asked.family = unix.AF_INET
		}
		own := traits{domain: asked.family, kind: unix.SOCK_STREAM, protocol: unix.IPPROTO_TCP, namespace: here}
		if test.own != nil {
			test.own(&own, &asked)
		}
		if ours, clash := match(test.held, asked, own); ours != test.ours || clash != test.clash {
			t.Errorf("%s: %+v, %+v", name, ours, clash)
		}
	}
}
