package openclaw

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/lazy"
)

// Units returns the services that may be OpenClaw's, going by the text of the unit files and drop-ins in folders: an enabled unit
// need not be loaded, so the manager's own list is not enough. One that is known already is left out. Beside an error there are
// those that were found.
func Units(directories []string, known string) (names []string, err error) {
	instances := sync.OnceValue(func() (names []string) {
		for _, directory := range directories {
			paths, failed := read.Glob(directory + "/*.wants/*@*.service")
			err = errors.Join(err, failed)
			for _, path := range paths {
				names = append(names, filepath.Base(path))
			}
		}
		return names
	})
	left := unitsLimit
	for _, directory := range directories {
		files, failed := read.Glob(directory + "/*.service")
		dropIns, failedToo := read.Glob(directory + "/*.service.d/*.conf")
		err = errors.Join(err, failed, failedToo)
		for _, path := range append(files, dropIns...) {
			name := filepath.Base(path)
			if strings.HasSuffix(path, ".conf") {
				name = strings.TrimSuffix(filepath.Base(filepath.Dir(path)), ".d")
			}
			if slices.Contains(names, name) || name == known {
				continue
			}
			content, _, refused := read.File(path, read.UnitLimit)
			if left -= len(content); left < 0 {
				return names, fmt.Errorf("the unit files are together bigger than %d MiB", unitsLimit>>20)
			}
			// Of a link that root does not follow the manager knows what it is; to nowhere or to /dev/null it is no unit.
			if !errors.Is(refused, read.ErrLink) && !perhaps(content) {
				continue
			}
			template, isTemplate := strings.CutSuffix(name, "@.service")
			if !isTemplate {
				names = append(names, name)
				continue
			}
			// Only an instance is a unit.
			for _, instance := range instances() {
				if strings.HasPrefix(instance, template+"@") {
					names = append(names, instance)
				}
			}
		}
	}
	return names, err
}

// unitsLimit is how many bytes all of them may have together: a machine with hundreds of units has some 200 KiB.
const unitsLimit = 32 << 20

// perhaps says of a unit file that systemd should be asked about it.
func perhaps(text []byte) bool { return mentioned().Match(text) || startsGateway().Match(text) }

var (
	mentioned     = lazy.Regexp("(?i)" + strings.Join(names, "|"))
	startsGateway = lazy.Regexp(`(?m)^\s*Exec.*\sgateway(\s|$)`)
)
