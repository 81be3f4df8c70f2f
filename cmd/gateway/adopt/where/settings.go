package where

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/titanous/json5"

	"openclaw-gateway/cmd/gateway/config"
	"openclaw-gateway/cmd/gateway/openclaw"
	"openclaw-gateway/cmd/gateway/openclaw/commandline"
	"openclaw-gateway/cmd/gateway/read"
)

// Settings is what OpenClaw's own configuration says about its gateway, as far as that matters for its address.
type Settings struct {
	StateDir string // where its state is, and its .env
	Path     string // of the configuration
	Found    bool

	Port       int    // 0: not said
	EnvPort    string // OPENCLAW_GATEWAY_PORT of the state directory's .env, or of env in the configuration
	Bind       string // loopback, lan, tailnet, custom, auto; "": not said
	CustomHost string // of bind custom
	TLS        bool
	Tailscale  string // off, serve, funnel; "": not said
}

// Variable is the value of a variable of OpenClaw's by its name without the prefix, whichever of its names it goes by: the
// present one wins.
func Variable(environment []string, name string) string {
	for _, product := range openclaw.Names() {
		if value := strings.TrimSpace(ValueOf(environment, strings.ToUpper(product)+"_"+name)); value != "" {
			return value
		}
	}
	return ""
}

// ValueOf is the value of a variable, the last one of that name; "" without it.
func ValueOf(environment []string, name string) (value string) {
	for _, entry := range environment {
		if said, ok := strings.CutPrefix(entry, name+"="); ok {
			value = said
		}
	}
	return value
}

// Profile is OpenClaw's profile: of the command line, else of the environment; "" is the default one.
func Profile(argv, environment []string) string {
	profile := cmp.Or(openclaw.Option(argv, "--profile"), Variable(environment, "PROFILE"))
	if at := slices.Index(argv, "--dev"); at >= 0 && at < slices.Index(argv, "gateway") {
		profile = "dev"
	}
	if strings.EqualFold(profile, "default") {
		return ""
	}
	return profile
}

// Read finds OpenClaw's configuration as OpenClaw does (src/config/paths.ts of 2026.9.6), with the rights of whoever calls
// it. An error is a sentence for people.
func Read(argv, environment []string, home, product string) (own Settings, err error) {
	if product == openclaw.Names()[0] {
		own.StateDir = openclaw.StateDir(home, environment, argv)
	} else {
		own.StateDir = formerStateDir(home, environment, product, Profile(argv, environment))
	}
	inHome := func(path string) string {
		if rest, ok := strings.CutPrefix(path, "~/"); ok {
			return filepath.Join(cmp.Or(ValueOf(environment, "HOME"), home), rest)
		}
		return path
	}
	own.Path = inHome(Variable(environment, "CONFIG_PATH"))
	if own.Path == "" {
		own.Path = filepath.Join(own.StateDir, "openclaw.json")
		for _, name := range openclaw.Names() {
			if path := filepath.Join(own.StateDir, name+".json"); exists(path) {
				own.Path = path
				break
			}
		}
	}
	if !filepath.IsAbs(own.Path) || !filepath.IsAbs(own.StateDir) {
		return own, fmt.Errorf("OpenClaw's state directory is %q and its configuration %q, relative to wherever it is started: give whole paths in its unit", own.StateDir, own.Path)
	}
	// What the environment does not say already, OpenClaw takes from here, and after that from its configuration.
	further, _, _ := config.ReadEnvironmentFile("-" + filepath.Join(own.StateDir, ".env"))
	if at := filepath.Dir(own.StateDir); own.StateDir == filepath.Join(at, ".openclaw") { // the head of package dotenv
		second, _, _ := config.ReadEnvironmentFile("-" + filepath.Join(at, ".config/openclaw/gateway.env"))
		further = append(second, further...)
	}
	own.EnvPort = Variable(further, "GATEWAY_PORT")
	tree, err := readIncluding(own.Path, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return own, nil
	}
	if err != nil {
		return own, fmt.Errorf("OpenClaw's own configuration cannot be read, and without it nobody knows where it listens: %w", err)
	}
	own.Found = true
	gateway, _ := tree["gateway"].(map[string]any)
	if port, ok := gateway["port"].(float64); ok && port > 0 && port < 1<<16 {
		own.Port = int(port)
	}
	further = append(variablesOf(tree), further...)
	own.EnvPort = Variable(further, "GATEWAY_PORT")
	known := variables(append(further, environment...))
	text := func(value any) string {
		said, _ := value.(string)
		return strings.TrimSpace(commandline.ExpandShell(said, known))
	}
	own.Bind, own.CustomHost = text(gateway["bind"]), text(gateway["customBindHost"])
	if tls, ok := gateway["tls"].(map[string]any); ok {
		own.TLS, _ = tls["enabled"].(bool)
	}
	if tailscale, ok := gateway["tailscale"].(map[string]any); ok {
		own.Tailscale = text(tailscale["mode"])
	}
	return own, nil
}

// variablesOf are those that a configuration sets: below env.vars, and below env itself.
func variablesOf(tree map[string]any) (entries []string) {
	env, _ := tree["env"].(map[string]any)
	vars, _ := env["vars"].(map[string]any)
	for _, from := range []map[string]any{vars, env} {
		for _, name := range slices.Sorted(maps.Keys(from)) {
			if value, ok := from[name].(string); ok && strings.TrimSpace(value) != "" {
				entries = append(entries, name+"="+value)
			}
		}
	}
	return entries
}

// formerStateDir is where an OpenClaw of an older name has its state.
func formerStateDir(home string, environment []string, product, profile string) string {
	home = cmp.Or(ValueOf(environment, "HOME"), home)
	if said := Variable(environment, "STATE_DIR"); said != "" {
		if rest, ok := strings.CutPrefix(said, "~/"); ok {
			said = filepath.Join(home, rest)
		}
		return said
	}
	suffix := ""
	if profile != "" {
		suffix = "-" + profile
	}
	present, former := filepath.Join(home, "."+product+suffix), filepath.Join(home, ".clawdbot"+suffix)
	if exists(present) && !exists(former) {
		return present
	}
	return former // moltbot's as well, unless it has one of its own alone (resolveStateDir of its src/config/paths.ts)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func variables(environment []string) map[string]string {
	known := map[string]string{}
	for _, entry := range environment {
		name, value, _ := strings.Cut(entry, "=")
		known[name] = value
	}
	return known
}

const (
	mostIncludes = 8 // one in another
	includeKey   = "$include"
)

// readIncluding reads a file of JSON5 with the files that it includes.
func readIncluding(path string, depth int) (map[string]any, error) {
	if depth > mostIncludes {
		return nil, fmt.Errorf("%s: more than %d files include each other", path, mostIncludes)
	}
	content, _, err := read.File(path, read.ConfigLimit)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := json5.Unmarshal(bytes.TrimPrefix(content, []byte("\ufeff")), &tree); err != nil {
		return nil, fmt.Errorf("%s is no JSON5 that can be read here: %w", path, err)
	}
	return including(tree, filepath.Dir(path), depth)
}

// including puts in what an object includes: what stands in the object itself wins.
func including(tree map[string]any, folder string, depth int) (map[string]any, error) {
	whole := map[string]any{}
	var files []string
	switch named := tree[includeKey].(type) {
	case string:
		files = []string{named}
	case []any:
		for _, one := range named {
			if name, ok := one.(string); ok {
				files = append(files, name)
			}
		}
	}
	for _, name := range files {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(folder, name)
		}
		part, err := readIncluding(path, depth+1)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("a file that it includes is not there: %s", path) // with that OpenClaw does not start
		}
		if err != nil {
			return nil, err
		}
		merge(whole, part)
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		if key == includeKey {
			continue
		}
		value := tree[key]
		if object, ok := value.(map[string]any); ok && (key == "gateway" || object[includeKey] == nil) {
			inner, err := including(object, folder, depth)
			if err != nil {
				return nil, err
			}
			value = inner
		}
		merge(whole, map[string]any{key: value})
	}
	return whole, nil
}

func merge(into, from map[string]any) {
	for key, value := range from {
		there, both := into[key].(map[string]any)
		if object, ok := value.(map[string]any); ok && both {
			merge(there, object)
		} else {
			into[key] = value
		}
	}
}

// Port is the port that OpenClaw listens on and where that is said, by its own precedence (resolveGatewayPort of 2026.9.6):
// the command line, the environment, its configuration, the profile's, its default.
func Port(argv, environment []string, own Settings, product, profile string) (port int, why string, err error) {
	if said := openclaw.Option(argv, "--port"); said != "" {
		port, err := strconv.ParseUint(said, 10, 16)
		if err != nil || port == 0 {
			return 0, "", fmt.Errorf("its command says --port %q, which is no port", said)
		}
		return int(port), "--port of its command", nil
	}
	if said := Variable(environment, "GATEWAY_PORT"); said != "" {
		// Docker's habit: an address before it.
		port, err := strconv.ParseUint(said[strings.LastIndex(said, ":")+1:], 10, 16)
		if err == nil && port > 0 {
			return int(port), strings.ToUpper(product) + "_GATEWAY_PORT of its environment", nil
		}
	}
	switch {
	case own.Port > 0:
		return own.Port, "gateway.port of " + own.Path, nil
	case profile == "dev":
		return 19001, "the port of OpenClaw's profile dev", nil
	case profile != "" && product == openclaw.Names()[0]:
		hash := uint32(2166136261)
		for _, c := range []byte(profile) {
			hash = (hash ^ uint32(c)) * 16777619
		}
		return 20000 + int(hash%40000), fmt.Sprintf("the port that OpenClaw gives to its profile %q", profile), nil
	default:
		return openclaw.DefaultPort, "OpenClaw's default", nil
	}
}
