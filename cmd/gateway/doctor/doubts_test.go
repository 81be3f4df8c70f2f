package doctor

import (
	"slices"
	"strings"
	"testing"

	"openclaw-gateway/cmd/gateway/config"
)

// TestAbruptStop: a server is known behind a wrapper, and not by what a user or an argument is called.
func TestAbruptStop(t *testing.T) {
	t.Parallel()
	for command, want := range map[string]string{
		`[nginx, -g, "daemon off;"]`:                                                             "SIGQUIT",
		`[/usr/local/openresty/bin/openresty, -g, "daemon off;"]`:                                "SIGQUIT",
		`[setpriv, --reuid=www-data, --regid=www-data, --init-groups, nginx, -g, "daemon off;"]`: "SIGQUIT",
		`[/bin/sh, -c, "cd /srv && exec nginx -g 'daemon off;'"]`:                                "SIGQUIT",
		`[gosu, nginx, nginx, -g, "daemon off;"]`:                                                "SIGQUIT",
		`[nice, -n, "5", /usr/sbin/haproxy, -W]`:                                                 "SIGUSR1",
		`[gosu, nginx, node, server.js]`:                                                         "",
		`[runuser, -u, nginx, --, node, server.js]`:                                              "",
		`[setpriv, --reuid, nginx, --regid, nginx, --clear-groups, node, server.js]`:             "",
		`[sh, -c, "exec node server.js --before nginx"]`:                                         "",
		`[setpriv, --reuid, "101", --regid, nginx, --clear-groups, node, server.js]`:             "",
		`[nice, -n, "5", /usr/bin/node, proxy.js, --upstream, nginx]`:                            "",
		`[flock, /run/lock/nginx, /usr/bin/node, server.js]`:                                     "",
		`[flock, -w, "5", /run/lock/a, nice, nginx]`:                                             "SIGQUIT",
		`[chroot, /srv/nginx, /app]`:                                                             "",
		`[envdir, /etc/haproxy, /usr/bin/app]`:                                                   "",
		`[timeout, 1d, lighttpd, -D]`:                                                            "SIGINT",
		`[apache2, -D, FOREGROUND]`:                                                              "SIGWINCH",
		`[sh, -c, "nginx -t && exec node server.js"]`:                                            "",
		`[sh, -c, "nginx -t; nginx -g 'daemon off;'"]`:                                           "SIGQUIT",
		`[sh, -c, "exec gosu nginx nginx -g 'daemon off;'"]`:                                     "SIGQUIT",
		`[python3, nginx]`: "",
		`[caddy, run]`:     "",
	} {
		cfg, err := config.Parse("c.yaml", []byte("worker:\n  command: "+command+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if d := abruptStop(cfg); (d == nil) != (want == "") || d != nil && !strings.Contains(d.Sentence, "write "+want) {
			t.Errorf("%s: %+v, want %q", command, d, want)
		}
	}
}

// TestEndless: a stop.signal that ends nothing by itself is told of; one that does, or that a server may mean, is not.
func TestEndless(t *testing.T) {
	t.Parallel()
	for signal, want := range map[string]bool{"SIGTERM": false, "SIGWINCH": false, "SIGHUP": false, "SIGUSR1": false, "SIGCHLD": true, "SIGCONT": true, "SIGURG": true, "SIGTSTP": true} {
		cfg, err := config.Parse("c.yaml", []byte("worker: {command: [x]}\nstop: {signal: "+signal+", timeout: 90s}\n"))
		if err != nil {
			t.Fatal(err)
		}
		said := slices.ContainsFunc(Doubts(cfg), func(d Doubt) bool { return d.Key == "stop.signal" && strings.Contains(d.Sentence, signal+" ends only") })
		if said != want {
			t.Errorf("%s: told of: %t, want %t", signal, said, want)
		}
	}
}

// TestByHandAlone: what "gateway install" refuses of listen is told before somebody runs it.
func TestByHandAlone(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		`["127.0.0.1:18789", "*:18790", "unix:/run/a b%.sock"]`: "",
		`["127.0.0.1:18789", "[fe80::1%lo]:18789"]`:             `as "gateway install" refuses it: cannot listen on [fe80::1%lo]:18789: systemd drops`,
	} {
		cfg, err := config.Parse("c.yaml", []byte("listen: "+listen+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, doubt := range Doubts(cfg) {
			said += doubt.Key + ": " + doubt.Sentence
		}
		if !strings.Contains(said, want) || want == "" && said != "" {
			t.Errorf("%s: %q, want %q", listen, said, want)
		}
	}
}
