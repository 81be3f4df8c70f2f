package say

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Colour is a Select Graphic Rendition of ECMA-48, without which a text says the
// same.
type Colour string

const (
	Bold   Colour = "1"
	Dim    Colour = "2"
	Red    Colour = "1;31"
	Green  Colour = "1;32"
	Yellow Colour = "1;33"
	Cyan   Colour = "1;36"
)

// Painter colours words, if it is true.
type Painter bool

// Paint returns the text in a colour.
func (p Painter) Paint(c Colour, text string) string {
	if !p || c == "" || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// PainterFor colours what goes to a terminal, unless NO_COLOR is set
// (https://no-color.org) or the terminal says that it cannot.
func PainterFor(w io.Writer) Painter {
	return Painter(IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// IsTerminal reports whether what is written there is seen on a terminal.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
