package say

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Confirm asks a question that is answered by yes or no, and yes by Enter alone. Nobody is asked where one of the two is no
// terminal: asked is false then.
func Confirm(in io.Reader, out io.Writer, question string) (yes, asked bool) {
	file, ok := in.(*os.File)
	if !ok || !IsTerminal(out) {
		return false, false
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return false, false
	}
	for lines := bufio.NewScanner(file); ; {
		fmt.Fprintf(out, "%s [Y/n] ", question)
		if !lines.Scan() { // Ctrl-D
			fmt.Fprintln(out)
			return false, true
		}
		switch strings.ToLower(strings.TrimSpace(lines.Text())) {
		case "", "y", "yes":
			return true, true
		case "n", "no":
			return false, true
		}
	}
}
