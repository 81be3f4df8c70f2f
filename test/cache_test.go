package test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/api"
	"openclaw-gateway/test/machine"
)

// cachingWorker is a small server that says where it keeps what it compiles.
const cachingWorker = `const http = require('node:http');
const { text } = require('./module.cjs');
http.createServer((request, response) => response.end(text())).listen(18789, '127.0.0.1');
process.on('SIGTERM', () => process.exit());
`

const cachedModule = `exports.text = () => String(process.env.NODE_COMPILE_CACHE);
`

// TestCache: a Node.js keeps what it has compiled in a directory of its user's alone, and starts whatever becomes of that.
func TestCache(t *testing.T) {
	inScopes(t, testCache)
}

func testCache(t *testing.T, here place) {
	m := here.boot(t, machine.Options{Users: true})
	configuration := func(command string, rest ...string) string {
		return "listen: [\"" + ipv4 + "\"]\nworker:\n  command: " + command + "\n  start: at-once\n" + strings.Join(rest, "")
	}
	direct := configuration("[" + nodePath + ", server.cjs]\n  directory: /srv/caching")
	root := m.As(m.System())
	root.WriteFile(t, "/srv/caching/server.cjs", cachingWorker, 0o644)
	root.WriteFile(t, "/srv/caching/module.cjs", cachedModule, 0o644)
	base, owner, flags := "/var/cache/openclaw-gateway", m.As(m.Scope), []string(nil)
	if here.user {
		base = m.Home() + "/.cache/openclaw-gateway"
	} else {
		owner = m.As(m.AddUser(t, "claw"))
		flags = []string{"--run-as", "claw"} // for root no directory is not to be written
	}
	cache := base + "/node"
	install(t, m.Scope, m, direct, flags...)
	generation := 1
	serving(t, m.Scope, generation)
	// use is what the worker says, and how it has started.
	use := func(t *testing.T) (directory, start string) {
		t.Helper()
		_, directory = get(t, m, ipv4, "/")
		var history api.History
		if err := json.Unmarshal([]byte(m.Run(t, gatewayPath, "status", "--history", "--json")), &history); err != nil {
			t.Fatal(err)
		}
		last := history.Generations[len(history.Generations)-1]
		if last.Generation != generation {
			t.Fatalf("the last life is %+v, want generation %d", last, generation)
		}
		return directory, last.Start
	}
	restart := func(t *testing.T) {
		t.Helper()
		m.Run(t, gatewayPath, "restart")
		generation++
	}
	wants := func(t *testing.T, directory, start string) {
		t.Helper()
		if gotDirectory, gotStart := use(t); gotDirectory != directory || gotStart != start {
			t.Errorf("generation %d keeps what it compiles in %s and started %s, want %s and %s", generation, gotDirectory, gotStart, directory, start)
		}
	}
	notes := func(t *testing.T, want string) {
		t.Helper()
		if s := gatewayStatus(t, m.Scope); s.Verdict != "ok" || strings.Contains(strings.Join(s.Notes, "\n"), "compile cache") != (want != "") || !strings.Contains(strings.Join(s.Notes, "\n"), want) {
			t.Errorf("the status is %s, with the notes %q, want %q", s.Verdict, s.Notes, want)
		}
	}
	parts := func(t *testing.T) string { return m.Run(t, "ls", cache) }

	wants(t, cache, api.StartCold)
	if got := m.Run(t, "stat", "--format=%a", base, cache); got != "700\n700\n" {
		t.Errorf("the modes of %s and what is in it are %s", base, got)
	}
	restart(t)
	wants(t, cache, api.StartCached)
	silent(t, m.Scope, "--"+kind(m.Scope))
	if shown := m.Run(t, gatewayPath, "status", "--history"); !strings.Contains(shown, "cached") || !strings.Contains(shown, "cold") {
		t.Errorf("the history does not say how they started:\n%s", shown)
	}

	t.Run("of another Node.js", func(t *testing.T) {
		m.Run(t, "mkdir", "-p", cache+"/v1.2.3-old")
		own := strings.TrimSpace(strings.Replace(parts(t), "v1.2.3-old\n", "", 1))
		restart(t)
		m.WaitFile(t, cache+"/v1.2.3-old", bound, func(_ string, err error) bool { return errors.Is(err, fs.ErrNotExist) })
		wants(t, cache, api.StartCached)
		if left := strings.TrimSpace(parts(t)); left != own {
			t.Errorf("left is %q, want %q", left, own)
		}
	})
	t.Run("others can write there", func(t *testing.T) {
		for _, path := range []string{cache, base} {
			m.Run(t, "chmod", "0777", path)
			restart(t)
			wants(t, "undefined", api.StartCold)
			notes(t, path+" is not a directory that only uid")
			f := finds(t, m.Scope, "cache-writable-by-others")
			m.Run(t, "bash", "-c", f.Fix)
			restart(t)
			wants(t, cache, api.StartCached)
			notes(t, "")
			silent(t, m.Scope, "--"+kind(m.Scope))
		}
	})
	t.Run("a link in its place", func(t *testing.T) {
		m.Run(t, "sh", "-c", fmt.Sprintf("mv %[1]s %[1]s.away && mkdir /tmp/elsewhere && ln -s /tmp/elsewhere %[1]s", cache))
		restart(t)
		wants(t, "undefined", api.StartCold)
		m.Run(t, "bash", "-c", finds(t, m.Scope, "cache-writable-by-others").Fix)
		restart(t)
		wants(t, cache, api.StartCold)
		if left := m.Run(t, "ls", "/tmp/elsewhere"); left != "" {
			t.Errorf("written where the link leads: %s", left)
		}
	})
	t.Run("removed", func(t *testing.T) {
		m.Run(t, "rm", "-r", cache)
		restart(t)
		wants(t, cache, api.StartCold)
		restart(t)
		wants(t, cache, api.StartCached)
	})
	t.Run("not to be written", func(t *testing.T) {
		owner.Run(t, "sh", "-c", "rm -r "+cache+"/* && chmod 0500 "+cache)
		for range 2 {
			restart(t)
			wants(t, cache, api.StartCold)
		}
		owner.Run(t, "chmod", "0700", cache)
	})
	t.Run("full", func(t *testing.T) {
		// The service has mounts of its own, which begin as those of the machine.
		anew := func(mount string, arguments ...string) {
			t.Helper()
			m.Run(t, gatewayPath, "stop")
			root.Run(t, mount, arguments...)
			m.Run(t, gatewayPath, "start")
			serving(t, m.Scope, generation+1)
			generation = gatewayStatus(t, m.Scope).Worker.Generation
		}
		anew("mount", "-t", "tmpfs", "-o", "size=4k,mode=0700,uid="+strings.TrimSpace(owner.Run(t, "id", "-u")), "none", cache)
		owner.Run(t, "sh", "-c", "head -c 4096 /dev/zero > "+cache+"/full")
		for range 2 {
			restart(t)
			if directory, _ := use(t); directory != cache {
				t.Errorf("it keeps what it compiles in %s", directory)
			}
		}
		anew("umount", cache)
	})
	for _, other := range []struct{ name, configuration, want string }{
		{"off", direct + "  cache: off\n", "undefined"},
		{"its own", direct + "  environment: [NODE_COMPILE_CACHE=/tmp/mine]\n", "/tmp/mine"},
		{"none wanted", direct + "  environment: [NODE_DISABLE_COMPILE_CACHE=1]\n", "undefined"},
		{"behind a shell", configuration("[/bin/sh, -c, exec " + nodePath + " server.cjs]\n  directory: /srv/caching"), "undefined"},
	} {
		t.Run(other.name, func(t *testing.T) {
			m.WriteFile(t, configPath(m.Scope), other.configuration, 0o644)
			m.Run(t, gatewayPath, "reload")
			generation++
			if directory, _ := use(t); directory != other.want {
				t.Errorf("it keeps what it compiles in %s, want %s", directory, other.want)
			}
			notes(t, "")
		})
	}
}
