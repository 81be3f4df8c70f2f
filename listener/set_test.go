package listener_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"openclaw-gateway/listener"
	"openclaw-gateway/netaddr"
)

func TestSelect(t *testing.T) {
	t.Parallel()
	var held listener.Set
	for _, address := range []string{"127.0.0.1:1", "[::1]:1", "127.0.0.1:2", "[fe80::1%lo]:1"} {
		held = append(held, &listener.Socket{Address: netaddr.MustParse(address)})
	}
	for _, test := range []struct {
		name                                string
		listen, selected, missing, unwanted []string
	}{
		{
			name: "all", listen: []string{"127.0.0.1:1", "[::1]:1", "127.0.0.1:2", "[fe80::1%lo]:1"},
			selected: []string{"127.0.0.1:1", "[::1]:1", "127.0.0.1:2", "[fe80::1%lo]:1"},
		},
		{
			name: "another order", listen: []string{"127.0.0.1:2", "[0:0::1]:1"},
			selected: []string{"127.0.0.1:2", "[::1]:1"}, unwanted: []string{"127.0.0.1:1", "[fe80::1%lo]:1"},
		},
		{
			name: "missing", listen: []string{"0.0.0.0:1", "127.0.0.1:1", "[fe80::1]:1"}, selected: []string{"127.0.0.1:1"},
			missing: []string{"0.0.0.0:1", "[fe80::1]:1"}, unwanted: []string{"[::1]:1", "127.0.0.1:2", "[fe80::1%lo]:1"},
		},
		{name: "nothing", unwanted: []string{"127.0.0.1:1", "[::1]:1", "127.0.0.1:2", "[fe80::1%lo]:1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			selected, missing, unwanted := held.Select(parse(test.listen), false)
			got := [][]string{text(selected.Addresses()), text(missing), text(unwanted)}
			if diff := cmp.Diff([][]string{test.selected, test.missing, test.unwanted}, got); diff != "" {
				t.Errorf("selected, missing, unwanted (-want +got):\n%s", diff)
			}
		})
	}
}

func parse(addresses []string) (parsed []netaddr.Address) {
	for _, address := range addresses {
		parsed = append(parsed, netaddr.MustParse(address))
	}
	return parsed
}

func text(addresses []netaddr.Address) (text []string) {
	for _, address := range addresses {
		text = append(text, address.String())
	}
	return text
}
