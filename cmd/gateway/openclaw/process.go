package openclaw

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"openclaw-gateway/cmd/gateway/read"
	"openclaw-gateway/lazy"
	"openclaw-gateway/worker/proctree"
)

// IsGateway reports whether a process is an OpenClaw gateway that serves, going by
// its argv: a JavaScript runtime or the openclaw command itself, OpenClaw's entry
// file, and the command "gateway". The kernel's short name for the process does not
// count: it is node, bun, MainThread or what the program calls itself.
//
// An entry file such as dist/index.js can be anybody's. It is OpenClaw's if the
// package.json beside it says so, read as the process sees it; where that cannot
// be read, if it lies in a folder named openclaw.
func IsGateway(pid int, argv []string) bool {
	entry, ok := invocation(argv)
	switch {
	case !ok:
		entry = overwritten(argv)
		return entry != "" && titled(pid) && PM2(proctree.Argv(parent(pid))) && ours(pid, entry)
	case entry == "":
		return titled(pid)
	default:
		return ours(pid, entry)
	}
}

// Named reports whether an argv alone may be that of a gateway.
func Named(argv []string) bool {
	_, ok := invocation(argv)
	return ok || overwritten(argv) != ""
}

// overwritten returns the entry file of an argv that PM2 has written over: it is "node FILE" then, and the arguments are gone.
// PM2 keeps running what serves, so that is the gateway.
func overwritten(argv []string) string {
	if len(argv) == 0 || strings.Join(argv[1:], "") != "" {
		return ""
	}
	if entry, ok := strings.CutPrefix(argv[0], "node "); ok && isEntry(entry) {
		return entry
	}
	return ""
}

// PM2 reports whether an argv is that of PM2's daemon, which writes over it, too.
func PM2(argv []string) bool { return len(argv) > 0 && pm2().MatchString(argv[0]) }

var pm2 = lazy.Regexp(`^PM2 v\S+: God Daemon`)

func parent(pid int) int {
	process, err := proctree.Find(pid)
	if err != nil {
		return 0
	}
	return process.PPID
}

// titled reports whether a process that calls itself by the title is one that can:
// Node.js or Bun. One that may not be looked into cannot be signalled either.
func titled(pid int) bool {
	program, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "exe"))
	return errors.Is(err, fs.ErrPermission) || err == nil && runtime().MatchString(filepath.Base(strings.TrimSuffix(program, " (deleted)")))
}

// Starts reports whether a command line, such as a unit's ExecStart, starts an
// OpenClaw gateway that serves; see IsGateway.
func Starts(argv []string) bool {
	entry, ok := invocation(argv)
	return ok && (entry == "" || belongs(entry, true))
}

// Kills reports whether a second OpenClaw would take a process that listens on its
// port for a stale gateway of its own, and kill it: because the kernel's name for it
// contains "openclaw", or because of its argv (findGatewayPidsOnPortSync and
// isGatewayArgv of 2026.9.6).
func Kills(name string, argv []string) bool {
	if strings.Contains(strings.ToLower(name), names[0]) {
		return true
	}
	return len(argv) > 0 &&
		(isTitle(filepath.Base(argv[0])) || slices.Contains(argv[1:], "gateway") && slices.ContainsFunc(argv, isEntry))
}

// invocation returns the entry file of a command line that starts a gateway, as it
// is written there, and "" where the program is the gateway by its own name.
func invocation(argv []string) (entry string, ok bool) {
	if len(argv) == 0 {
		return "", false
	}
	// What is left of a longer argv is empty. A program of that name is not Node.js.
	if isTitle(argv[0]) && strings.Join(argv[1:], "") == "" {
		return "", true
	}
	rest := argv
	if runtime().MatchString(filepath.Base(argv[0])) {
		if rest = script(argv[1:]); len(rest) == 0 {
			return "", false
		}
	}
	return rest[0], isEntry(rest[0]) && serves(rest[1:])
}

// runtime matches the programs that run OpenClaw, also with a version behind the
// name, as distributions have them.
var runtime = lazy.Regexp(`^(node|nodejs|bun)(-?[0-9][0-9.]*)?$`)

// Options of Node.js and Bun that are followed by a value of their own (node(1));
// with -e and -p there is no script.
var (
	valueOptions = []string{
		"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions", "--title", "--env-file",
		"--preload", "--cwd", "--config", "-c", "--input-type",
	}
	codeOptions = []string{"-e", "--eval", "-p", "--print", "-pe"}
)

// script returns the arguments of a runtime from the script on.
func script(args []string) []string {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--":
			return args[i+1:]
		case slices.Contains(codeOptions, arg):
			return nil
		case slices.Contains(valueOptions, arg):
			i++
		case strings.HasPrefix(arg, "-"), arg == "run": // "bun run script"
		default:
			return args[i:]
		}
	}
	return nil
}

// entries are OpenClaw's entry files below its folder, in a package and in a
// checkout (src/infra/gateway-process-argv.ts of 2026.9.6), besides its command.
var entries = []string{"dist/index.js", "dist/entry.js", "scripts/run-node.mjs", "src/entry.ts", "src/index.ts"}

func isEntry(path string) bool {
	return slices.Contains(names, strings.TrimSuffix(filepath.Base(path), ".mjs")) ||
		slices.ContainsFunc(entries, func(entry string) bool { return path == entry || strings.HasSuffix(path, "/"+entry) })
}

// serves reports whether OpenClaw's own arguments run the gateway: "gateway" or
// "gateway run", with global options before. "gateway status" and the like are
// clients.
func serves(args []string) bool {
	for i := 0; i < len(args); i++ {
		switch arg := args[i]; {
		case arg == "--profile", arg == "--log-level":
			i++
		case strings.HasPrefix(arg, "-"):
		case arg == "gateway":
			next := slices.IndexFunc(args[i+1:], func(arg string) bool { return arg != "" })
			return next < 0 || args[i+1+next] == "run" || strings.HasPrefix(args[i+1+next], "-")
		default:
			return false
		}
	}
	return false
}

// ours reports whether an entry file belongs to OpenClaw, as the process sees it.
func ours(pid int, entry string) bool {
	folder := filepath.Join("/proc", strconv.Itoa(pid))
	path := entry
	if !filepath.IsAbs(path) {
		if cwd, err := os.Readlink(filepath.Join(folder, "cwd")); err == nil {
			path = filepath.Join(cwd, path)
		}
	}
	// In another root the same path is another file, and a link leads elsewhere.
	root, err := os.Readlink(filepath.Join(folder, "root"))
	return belongs(path, err == nil && root == "/")
}

// belongs reports whether the file at path belongs to OpenClaw; look says that it
// can be looked at.
func belongs(path string, look bool) bool {
	if look {
		if resolved, err := read.Resolve(path); err == nil {
			path = resolved
		}
		if pkg, err := ReadPackage(path); err == nil {
			return slices.Contains(names, pkg.Name)
		}
	}
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.Contains(strings.Split(path, "/"), name) || filepath.Base(path) == name+".mjs"
	})
}
