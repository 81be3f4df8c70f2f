package systemd

import (
	"testing"

	"openclaw-gateway/netaddr"
)

func TestOwner(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		access, want netaddr.Access
		err          string
	}{
		{netaddr.Access{}, netaddr.Access{}, ""},
		{netaddr.Access{Mode: "0660", User: "root", Group: "root"}, netaddr.Access{Mode: "0660", User: "0", Group: "0"}, ""},
		{netaddr.Access{User: "12345", Group: "54321"}, netaddr.Access{User: "12345", Group: "54321"}, ""},
		{netaddr.Access{User: "nobody-at-all"}, netaddr.Access{}, "there is no user nobody-at-all"},
		{netaddr.Access{Group: "nobody-at-all"}, netaddr.Access{}, "there is no group nobody-at-all"},
	} {
		got, err := Owner(test.access)
		if test.err == "" && (err != nil || got != test.want) || test.err != "" && (err == nil || err.Error() != test.err) {
			t.Errorf("%+v: %+v, %v", test.access, got, err)
		}
	}
}
