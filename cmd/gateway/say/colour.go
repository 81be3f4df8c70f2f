package say

import (
	"io"
	"os"
	"strings"

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

// Painter colours words, if it is true, for a [Writer].
type Painter bool

// Paint returns the text in a colour.
func (p Painter) Paint(c Colour, text string) string {
	if !p || c == "" || text == "" {
		return text
	}
	return mark + "[" + string(c) + "m" + text + mark + "[0m"
}

// Redrawn is a text for a terminal that shows an earlier one: from the top, each line to its end, and the rest of the screen.
// Clearing it first would flicker.
func Redrawn(text string) string {
	return mark + "[H" + strings.ReplaceAll(text, "\n", mark+"[K\n") + mark + "[J"
}

// PainterFor colours what goes to a terminal, unless NO_COLOR is set
// (https://no-color.org) or the terminal says that it cannot.
func PainterFor(w io.Writer) Painter {
	return Painter(IsTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

// IsTerminal reports whether what is written there, by a [Writer], is seen on a terminal.
func IsTerminal(w io.Writer) bool {
	file := fileOf(w)
	if file == nil {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// Columns is how wide the terminal is on which is seen what is written there, by a [Writer]; 0 where there is none, or where
// it does not say.
func Columns(w io.Writer) int {
	file := fileOf(w)
	if file == nil {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

func fileOf(w io.Writer) *os.File {
	if writer, ok := w.(*Writer); ok {
		file, _ := writer.out.(*os.File)
		return file
	}
	return nil
}
