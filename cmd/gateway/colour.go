package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// colour is a Select Graphic Rendition of ECMA-48, without which a text says the
// same.
type colour string

const (
	plain  colour = ""
	bold   colour = "1"
	dim    colour = "2"
	red    colour = "1;31"
	green  colour = "1;32"
	yellow colour = "1;33"
	cyan   colour = "1;36"
)

// painter colours words, if it is true.
type painter bool

func (p painter) paint(c colour, text string) string {
	if !p || c == plain || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// painterFor colours what goes to a terminal, unless NO_COLOR is set
// (https://no-color.org) or the terminal says that it cannot.
func painterFor(w io.Writer) painter {
	return painter(isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}
