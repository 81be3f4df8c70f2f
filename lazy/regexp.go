// Package lazy makes things when they are first needed.
package lazy

import (
	"regexp"
	"sync"
)

// Regexp returns what compiles a regular expression when it is first asked for it, and panics then where the expression is
// none. The program has dozens of them, of which the launcher, that stays in memory, needs few: all of them took more than
// half of a MiB.
func Regexp(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
