// Package dotenv has OpenClaw leave its service to us: with OPENCLAW_SUPERVISOR_MODE=external in the .env of its state directory
// its own "gateway install", "stop", "start" and "uninstall" refuse in every shell, and "gateway restart" and its "doctor" leave our
// units alone.
//
// OpenClaw 2026.9.6 reads that file, and then ~/.config/openclaw/gateway.env unless its state directory is another than
// ~/.openclaw; what is in the environment already is not taken from either, nor from the second what is in the first
// (src/infra/dotenv-global-core.ts). The .env of the folder in which somebody calls it gives it no variable of its own.
//
// What is written can be taken out again to the byte: a comment in the file says what was there before.
package dotenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"deps.dev/util/semver"

	"openclaw-gateway/cmd/gateway/read"
)

// Variable is what OpenClaw looks at, and Line with it what is written; its case does not matter.
const (
	Variable = "OPENCLAW_SUPERVISOR_MODE"
	Line     = Variable + "=external"
)

// Known reports whether a version of OpenClaw looks at the variable: those from 2026.7 on do; 2026.5.5 ignores it.
func Known(version string) bool {
	release, _, _ := strings.Cut(version, "-")
	_, err := semver.NPM.Parse(release)
	return err == nil && semver.NPM.Compare(release, "2026.7.0") >= 0
}

// limit is how long a file may be that OpenClaw reads, in bytes (MAX_DOTENV_FILE_BYTES).
const limit = 1 << 20

// File is the .env of a gateway's state directory.
type File struct {
	Path string
	// Second is read by OpenClaw after it; "" where none is.
	Second string
	UID    int // whose the state is
}

// State is what a file says.
type State struct {
	Set   bool
	Value string // of the variable; "" where it is not set
	Path  string // where it is set
	Line  int    // there, counted from 1
	Ours  bool   // Set has put it there
}

// External reports whether OpenClaw leaves its service alone, in a shell that has not another value in its environment.
func (s State) External() bool {
	return s.Set && strings.EqualFold(strings.TrimSpace(s.Value), "external")
}

// Look reads the files.
func (f File) Look(ctx context.Context) (State, error) { return f.as(ctx, look) }

// Set has OpenClaw leave its service alone: it adds the line before everything else in the file, or replaces the value that is
// there, and makes the file, for its user alone, where there is none; its mode stays, and its group. It changes nothing where the
// variable has that value already.
func (f File) Set(ctx context.Context) (State, error) { return f.as(ctx, set) }

// TakeOut takes out what Set has put into the file, and leaves all else.
func (f File) TakeOut(ctx context.Context) (State, error) { return f.as(ctx, takeOut) }

// content reads a file that need not be there.
func content(path string) ([]byte, fs.FileInfo, error) {
	text, info, err := read.File(path, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	return text, info, err
}

func (f File) look() (State, error) {
	for _, path := range []string{f.Path, f.Second} {
		if path == "" {
			continue
		}
		text, _, err := content(path)
		if err != nil {
			return State{}, err
		}
		if found, ok := assigned(text, Variable); ok {
			_, ours := without(text)
			return State{Set: true, Value: found.value, Path: path, Line: found.line, Ours: ours && path == f.Path}, nil
		}
	}
	return State{}, nil
}

// What stands above the line, by which it is known as ours.
const (
	addedLine   = "# gateway added the next line, and takes it out when it is uninstalled."
	addedFile   = "# gateway added this file, and removes it when it is uninstalled."
	addedFolder = "# gateway added this file and its folder, and removes them when it is uninstalled."
	changedLine = "# gateway changed the next line, and changes it back when it is uninstalled. It was: "
)

func (f File) set() (State, error) {
	state, err := f.look()
	if err != nil || state.External() {
		return state, err
	}
	path, err := f.place()
	if err != nil {
		return state, err
	}
	text, info, err := content(path)
	if err != nil {
		return state, err
	}
	mark := addedLine
	if info == nil {
		mark = addedFile
		if err := os.Mkdir(filepath.Dir(path), 0o700); err == nil {
			mark = addedFolder
		} else if !errors.Is(err, fs.ErrExist) {
			return state, err
		}
	}
	if err := f.write(path, with(text, mark), info); err != nil {
		return state, err
	}
	return f.look()
}

// with returns the content with the line, under a mark.
func with(text []byte, mark string) []byte {
	if found, ok := assigned(text, Variable); ok {
		was := text[found.start:found.end]
		return bytes.Join([][]byte{text[:found.start], []byte(changedLine + strconv.Quote(string(was)) + "\n" + Line), text[found.end:]}, nil)
	}
	return append([]byte(mark+"\n"+Line+"\n"), text...)
}

// without returns the content without what is ours; false where nothing is.
func without(text []byte) ([]byte, bool) {
	for start := range text {
		if start > 0 && text[start-1] != '\n' && text[start-1] != '\r' || text[start] != '#' {
			continue
		}
		mark, rest, _ := bytes.Cut(text[start:], []byte("\n"))
		switch mark := string(mark); {
		case mark == addedLine, mark == addedFile, mark == addedFolder:
			rest, _ = bytes.CutPrefix(rest, []byte(Line+"\n"))
			return slices.Concat(text[:start], rest), true
		case strings.HasPrefix(mark, changedLine):
			was, err := strconv.Unquote(mark[len(changedLine):])
			behind, unchanged := bytes.CutPrefix(rest, []byte(Line))
			if err != nil || !unchanged || len(behind) > 0 && !bytes.ContainsAny(behind[:1], " \t\r\n#") {
				return slices.Concat(text[:start], rest), true // somebody has changed it since
			}
			return slices.Concat(text[:start], []byte(was), behind), true
		}
	}
	return text, false
}

func (f File) takeOut() (State, error) {
	text, info, err := content(f.Path)
	if err != nil {
		return State{}, err
	}
	rest, ours := without(text)
	if !ours {
		return f.look()
	}
	path, err := f.place()
	if err != nil {
		return State{}, err
	}
	madeFile, madeFolder := bytes.HasPrefix(text, []byte(addedFile+"\n")), bytes.HasPrefix(text, []byte(addedFolder+"\n"))
	switch {
	case len(rest) > 0 || !madeFile && !madeFolder:
		err = f.write(path, rest, info)
	default:
		if err = os.Remove(path); err == nil && madeFolder {
			_ = os.Remove(filepath.Dir(path)) // by now there is more in it, as a rule
		}
	}
	if err != nil {
		return State{}, err
	}
	return f.look()
}

// refusal wraps what is not done because somebody else could have it done elsewhere.
func refusal(path, why string) error {
	return fmt.Errorf("%s is not written: %s; write %s there yourself", path, why, Line)
}
