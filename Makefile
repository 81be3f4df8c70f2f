# Each of run, test and bench does all the set-up that it needs. See README.md.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The steps of a target are in order.
.NOTPARALLEL:
# Where Debian has programs that are not only root's, such as runuser.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin

# The version that is next to be published stands on top of the changelog; a build that is not, says of which commit it is.
RELEASE := $(shell sed -n 's/^## \([0-9][0-9.]*\)$$/\1/p' CHANGELOG.md | head -n 1)
VERSION := $(RELEASE)+$(shell git describe --always --dirty 2>/dev/null || echo unknown)
TOOLS := tools/go.mod
PROGRAM := bin/gateway

# The real thing, for run-openclaw, test and bench: Node.js and OpenClaw as npm has
# them, in the user's cache, one folder for each pair of versions.
NODE_VERSION := 24.21.0
OPENCLAW_VERSION := 2026.9.6
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/openclaw-gateway
OPENCLAW := $(CACHE)/openclaw-$(OPENCLAW_VERSION)-node-$(NODE_VERSION)
NODE_PACKAGE := node-linux-$(if $(filter aarch64,$(shell uname -m)),arm64,x64)
NODE := $(OPENCLAW)/node_modules/$(NODE_PACKAGE)/bin/node
OPENCLAW_ENTRY := $(OPENCLAW)/node_modules/openclaw/dist/index.js
# The version with which it all began, beside it and with the same Node.js.
OLD_OPENCLAW_VERSION := 2026.5.5
OLD_OPENCLAW := $(CACHE)/openclaw-$(OLD_OPENCLAW_VERSION)
OLD_OPENCLAW_ENTRY := $(OLD_OPENCLAW)/node_modules/openclaw/dist/index.js
PM2_VERSION := 7.0.4
PM2 := $(CACHE)/pm2-$(PM2_VERSION)
NPM_INSTALL := npm install --no-audit --no-fund --loglevel=error

.PHONY: help
help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Without the C library: the same program on every Linux, whether or not gcc is there, and one that starts sooner.
# Without the HTTP/2 of net/http, which nothing here speaks: the launcher needs less memory.
# Without inlining (-l), and with functions that lie closer together, the program is 11 % smaller and starts no slower (measured
# with Go 1.26). The launcher stays in memory, and a new kernel (6.18) maps most of a program that it has read in large pieces.
.PHONY: build
build: ## build bin/gateway, or PROGRAM=FILE
	@CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -gcflags=all=-l -ldflags '-s -w -funcalign=8 -X openclaw-gateway/cmd/gateway/api.version=$(VERSION)' -o $(PROGRAM) ./cmd/gateway

.PHONY: run
run: build ## run the launcher by hand, with the built-in hello server
	@$(PROGRAM) run --config config.example.yaml

.PHONY: run-openclaw
run-openclaw: build openclaw ## run the launcher by hand, with the real OpenClaw
	@mkdir -p -m 0700 .run .run/home
	@umask 077; test -s .run/openclaw.env || \
		echo "OPENCLAW_GATEWAY_TOKEN=$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')" > .run/openclaw.env
	@sed -e 's|@NODE@|$(NODE)|; s|@ENTRY@|$(OPENCLAW_ENTRY)|; s|@RUN@|$(CURDIR)/.run|' \
		test/openclaw/config.yaml.in > .run/openclaw.yaml
	@echo "The gateway's token is in .run/openclaw.env."
	@$(PROGRAM) run --config .run/openclaw.yaml

.PHONY: openclaw
openclaw: $(OPENCLAW)/complete ## fetch Node.js and OpenClaw into the user's cache

$(OPENCLAW)/complete:
	@command -v npm >/dev/null || { echo "npm is missing: on Debian, apt-get install npm" >&2; exit 1; }
	@echo "Fetching Node.js $(NODE_VERSION) and OpenClaw $(OPENCLAW_VERSION) (once, about 850 MB)"
	@mkdir -p $(OPENCLAW)
	@$(NPM_INSTALL) --prefix $(OPENCLAW) $(NODE_PACKAGE)@$(NODE_VERSION)
	@PATH=$(dir $(NODE)):$$PATH $(NPM_INSTALL) --prefix $(OPENCLAW) openclaw@$(OPENCLAW_VERSION)
	@touch $@

$(OLD_OPENCLAW)/complete: $(OPENCLAW)/complete
	@echo "Fetching OpenClaw $(OLD_OPENCLAW_VERSION) (once)"
	@mkdir -p $(OLD_OPENCLAW)
	@PATH=$(dir $(NODE)):$$PATH $(NPM_INSTALL) --prefix $(OLD_OPENCLAW) openclaw@$(OLD_OPENCLAW_VERSION)
	@touch $@

# Debian 13 in a folder, from Debian's packages, by the mirror that apt uses here, or by mmdebstrap's own choice: nothing of it
# is installed or started here. What an interrupted attempt has left mounted is not removed.
define debian13
	@mkdir -p $(@D)
	@rm -rf --one-file-system $(@D)/root $(@D)/complete*
	@mirror=$$(apt-get indextargets --format '$$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1 || true); \
		mmdebstrap --quiet --variant=essential --dpkgopt=force-unsafe-io --include=$(1) trixie $(@D)/root $$mirror
	@touch $@
endef

# A second, newer systemd for the tests. libstdc++6 is for Node.js, sudo and curl for what README.md and docs/openclaw.md type,
# lsof for OpenClaw's own restart.
DEBIAN13 := $(CACHE)/debian-13
DEBIAN13_PACKAGES := systemd,dbus,libpam-systemd,passwd,iproute2,procps,python3,libstdc++6,sudo,curl,lsof
DEBIAN13_COMPLETE := $(DEBIAN13)/complete-$(DEBIAN13_PACKAGES)
$(DEBIAN13_COMPLETE): | packages
	@echo "Making a Debian 13 (once, about 200 MB)"
	$(call debian13,$(DEBIAN13_PACKAGES))

# The servers that docs/servers.md names. Debian has a Caddy that takes no descriptor.
SERVERS := $(CACHE)/servers
SERVERS_PACKAGES := systemd,procps,libstdc++6,gunicorn,uvicorn,puma,nginx,haproxy,php-fpm,lighttpd,openjdk-21-jdk-headless,$(strip \
	)python3-aiohttp,python3-waitress,uwsgi-core,uwsgi-plugin-python3,apache2,php-cli,libnetty-java
SERVERS_COMPLETE := $(SERVERS)/complete-$(SERVERS_PACKAGES)
$(SERVERS_COMPLETE): | packages
	@echo "Making a Debian 13 with servers (once, about 700 MB)"
	$(call debian13,$(SERVERS_PACKAGES))

CADDY_VERSION := 2.11.9
CADDY := $(CACHE)/caddy-$(CADDY_VERSION)/caddy
$(CADDY):
	@echo "Building Caddy $(CADDY_VERSION) (once)"
	@GOBIN=$(@D) CGO_ENABLED=0 go install github.com/caddyserver/caddy/v2/cmd/caddy@v$(CADDY_VERSION)

# Servers that run on Node.js, and what else npm has: other runtimes, and programs that start a server again.
NODE_SERVERS := express@5.3.0 fastify@5.12.8 ws@8.23.0 bun@1.4.5 deno@2.9.6 pm2@$(PM2_VERSION) nodemon@3.1.14 tsx@4.23.15 npm@11.21.2
NODE_SERVERS_IN := $(CACHE)/$(subst $() ,-,$(NODE_SERVERS))
$(NODE_SERVERS_IN)/complete: $(OPENCLAW)/complete
	@echo "Fetching $(NODE_SERVERS) (once)"
	@mkdir -p $(@D)
	@PATH=$(dir $(NODE)):$$PATH $(NPM_INSTALL) --prefix $(@D) $(NODE_SERVERS)
	@touch $@

# Shell that fetches a package of Debian's into the working directory.
fetch_deb = { fetch="apt-get download -qq -o APT::Sandbox::User=root $(1)"; $$fetch || { apt-get update -qq && $$fetch; }; }

# Prometheus' own judge of metrics, out of Debian's package, whose services nobody asked for.
PROMTOOL := $(CACHE)/promtool/usr/bin/promtool
$(PROMTOOL): | packages
	@echo "Fetching promtool (once, about 20 MB)"
	@mkdir -p $(CACHE)/promtool
	@cd $(CACHE)/promtool && rm -f *.deb && $(call fetch_deb,prometheus) && \
		dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -m ./usr/bin/promtool && rm -f *.deb

# What the tests use, in the environment; and those of the packages, with the options of go test and without the packages of $(2).
TESTED = NODE=$(NODE) OPENCLAW_ENTRY=$(OPENCLAW_ENTRY) OLD_OPENCLAW_ENTRY=$(OLD_OPENCLAW_ENTRY) DEBIAN13_ROOT=$(DEBIAN13)/root \
	SERVERS_ROOT=$(SERVERS)/root SERVERS_MODULES=$(NODE_SERVERS_IN)/node_modules CADDY=$(CADDY) PATH=$(dir $(PROMTOOL)):$$PATH
unit_tests = go test $(1) -count=1 -timeout 20m -p $$(($$(nproc) + 1)) -exec "'$(CURDIR)/test/loopback.sh'" ./worker \
	$$(go list ./... | grep -v -e /worker$$ $(2))

# What the machines of the tests have cost, the dearest ten tests first.
costs = awk '{ cost[$$2] += $$1; all += $$1; machines++ } \
	END { printf "processor time of %d machines: %.0f s\n", machines, all; \
		for (test in cost) printf "%6.1f s %4.1f %% %s\n", cost[test], 100 * cost[test] / all, test | "sort -rn | head -n 10" }' $(1)

# Runs tests, and repeats what has failed at the end, behind the journals of its machines.
failing_last = { $(1) | tee "$$SAID" || { echo; echo "What has failed, once more:"; \
	grep -E -- '^ *(--- FAIL|panic:|[a-z_]+_test\.go:[0-9]+:)' "$$SAID" | cut -c-300 | tail -n 40; exit 1; }; }

# The tests of the installed product are on machines of their own, and drive the program from outside: the race detector
# would watch their clients, and slow them down. They come after the others, which look at times more closely. Each of
# them waits at times, for systemd or for a limit to pass: so one more at a time than there are processors. The worker's tests
# take longest, and wait most of it: they begin first, with the others beside them, each package in a network of its own.
.PHONY: test
test: root packages check openclaw $(OLD_OPENCLAW)/complete $(DEBIAN13_COMPLETE) $(SERVERS_COMPLETE) $(CADDY) $(NODE_SERVERS_IN)/complete $(PROMTOOL) ## test everything, on a real systemd and with the real OpenClaw (needs root)
	@export $(TESTED); export SCORES=$$(mktemp) COSTS=$$(mktemp) SAID=$$(mktemp); trap 'rm -f "$$SCORES" "$$COSTS" "$$SAID"' EXIT; \
		$(call failing_last,$(call unit_tests,-race,-e /test$$ -e /test/recording$$)) && \
		$(call failing_last,go test -count=1 -timeout 90m -parallel $$(($$(nproc) + 1)) ./test) && cat "$$SCORES" && $(call costs,"$$COSTS")

# The same tests of the packages as in "make test", without the race detector; of those that boot machines, none.
.PHONY: quick
quick: root packages check openclaw $(PROMTOOL) ## check, and all tests that need no machine, in under two minutes (needs root)
	@export $(TESTED); $(call unit_tests,,-e /test$$ -e /test/machine$$ -e /test/bench$$ -e /test/recording$$)

# SEEDS=, or one SEED=, and how many FAULTS= with each. What is as it should be becomes a line of STORM_TABLE=, docs/storm.md's for one.
FAULTS ?= 300
SEEDS ?= $(or $(SEED),1)
.PHONY: storm
storm: root packages openclaw $(DEBIAN13_COMPLETE) ## many faults at random under clients, seeded: SEEDS="1 2" FAULTS=300; a hundred upgrades, and twenty prewarmed restarts (needs root)
	@export $(TESTED); for seed in $(SEEDS); do STORM_SEED=$$seed STORM_FAULTS=$(FAULTS) STORM_TABLE=$(STORM_TABLE) UPGRADES=100 \
		go test -count=1 -timeout 120m -parallel $$(($$(nproc) + 1)) -run '^Test(Storm|Upgrade)$$' ./test || exit; done; \
		PREWARMED_RESTARTS=20 go test -count=1 -timeout 60m -run '^TestOpenClaw$$/^$(OPENCLAW_VERSION)$$/^prewarmed$$' ./test

.PHONY: bench
bench: root packages peers $(OLD_OPENCLAW)/complete $(SERVERS_COMPLETE) $(NODE_SERVERS_IN)/complete ## measure everything beside what others use, and write docs/bench.md and docs/bench.svg (needs root)
	@mkdir -p docs
	@NODE=$(NODE) OPENCLAW_ENTRY=$(OPENCLAW_ENTRY) OLD_OPENCLAW_ENTRY=$(OLD_OPENCLAW_ENTRY) PM2_MODULES=$(PM2)/node_modules SERVERS_ROOT=$(SERVERS)/root \
		SERVERS_MODULES=$(NODE_SERVERS_IN)/node_modules BENCH_DOCS=$(CURDIR)/docs \
		go test -run '^$$' -bench Report -benchtime 1x -timeout 35m ./test/bench

# What records a terminal, out of Debian's package, and what draws it, out of npm's.
ASCIINEMA := $(CACHE)/asciinema
SVG_TERM_VERSION := 2.1.1
SVG_TERM := $(CACHE)/svg-term-$(SVG_TERM_VERSION)
$(ASCIINEMA)/complete: | packages
	@rm -rf $(ASCIINEMA) && mkdir -p $(ASCIINEMA)
	@cd $(ASCIINEMA) && $(call fetch_deb,asciinema) && dpkg-deb -x asciinema_*.deb . && rm -f *.deb
	@touch $@
$(SVG_TERM)/complete: $(OPENCLAW)/complete
	@mkdir -p $(SVG_TERM)
	@PATH=$(dir $(NODE)):$$PATH $(NPM_INSTALL) --prefix $(SVG_TERM) svg-term-cli@$(SVG_TERM_VERSION)
	@touch $@

.PHONY: recording
recording: root packages openclaw $(ASCIINEMA)/complete $(SVG_TERM)/complete ## record a terminal in a test machine, and write docs/incident.svg and docs/restart.svg (needs root)
	@NODE=$(NODE) OPENCLAW_ENTRY=$(OPENCLAW_ENTRY) ASCIINEMA=$(ASCIINEMA) SVG_TERM=$(SVG_TERM)/node_modules/svg-term-cli/lib/cli.js \
		RECORDING_DOCS=$(CURDIR)/docs go test -run '^$$' -bench Recording -benchtime 1x -timeout 40m ./test/recording

# Everything in it has the time of the commit.
DIST := dist
.PHONY: dist
dist: ## build what is published, for each processor, into dist/: programs, Debian and npm packages, checksums
	@rm -rf $(DIST) && mkdir -p $(DIST)
	@OUT=$(abspath $(DIST)) VERSION=$(RELEASE) SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) packaging/dist

.PHONY: root
root:
	@test "$$(id -u)" = 0 || { \
		echo "This needs root: it boots a systemd of its own, in namespaces and cgroups of its own." >&2; \
		echo "Run: sudo env PATH=\"\$$PATH\" make $(MAKECMDGOALS)" >&2; exit 1; }

# Shell that puts the packages of absent programs, of a list of program:package, into the array missing; and that installs them.
find_missing = missing=(); for need in $(1); do command -v "$${need%%:*}" >/dev/null || missing+=("$${need\#\#*:}"); done
install_missing = if [ $${\#missing[@]} -gt 0 ]; then \
	command -v apt-get >/dev/null || { echo "Install: $${missing[*]}" >&2; exit 1; }; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$${missing[@]}"; fi

NEEDS := /lib/systemd/systemd:systemd dbus-daemon:dbus /lib/systemd/systemd-logind:systemd \
	unshare:util-linux nsenter:util-linux runuser:util-linux ip:iproute2 python3:python3 gcc:gcc sudo:sudo curl:curl lsof:lsof openssl:openssl \
	npm:npm mmdebstrap:mmdebstrap lintian:lintian
.PHONY: packages
packages:
	@$(call find_missing,$(NEEDS)); \
	find /lib/*-linux-gnu*/security /usr/lib/*/security -name pam_systemd.so 2>/dev/null | grep -q . || missing+=(libpam-systemd); \
	find /lib/*-linux-gnu* /usr/lib/*-linux-gnu* -maxdepth 1 -name 'libnss_systemd*' 2>/dev/null | grep -q . || missing+=(libnss-systemd); \
	test -e /usr/share/keyrings/debian-archive-keyring.gpg || missing+=(debian-archive-keyring); \
	test -e /usr/include/stdlib.h || missing+=(libc6-dev); \
	$(install_missing)

# Whom bench compares with. One that cannot be had stands in the report as missing. Their packages start services, which
# nobody asked for.
PEERS := supervisord:supervisor haproxy:haproxy start_server:libserver-starter-perl
.PHONY: peers
peers: openclaw
	@$(call find_missing,$(PEERS)); ( $(install_missing) ) || echo "Going on without: $${missing[*]}" >&2; \
	if [ -d /run/systemd/system ]; then \
		for package in "$${missing[@]}"; do systemctl disable --now "$$package.service" >/dev/null 2>&1 || true; done; fi
	@test -e $(PM2)/complete || { mkdir -p $(PM2) && PATH=$(dir $(NODE)):$$PATH $(NPM_INSTALL) --prefix $(PM2) pm2@$(PM2_VERSION) && \
		touch $(PM2)/complete; } || echo "Going on without: PM2" >&2

# Known vulnerabilities of Go modules: Go's own database, or a mirror of it. govulncheck tells the date of one that answers.
GOVULNDB ?= https://vuln.go.dev
.PHONY: check
check: ## formatting, vet, staticcheck, the import rules, known vulnerabilities
	@unformatted=$$(go tool -modfile=$(TOOLS) gofumpt -l .); \
		test -z "$$unformatted" || { echo "gofumpt would change:" $$unformatted >&2; exit 1; }
	@go vet ./...
	@go tool -modfile=$(TOOLS) staticcheck ./...
	@go test ./test/imports
	@scan=$$(go tool -modfile=$(TOOLS) -n govulncheck); \
		if timeout 10 "$$scan" -db $(GOVULNDB) -version | grep '^DB updated' >/dev/null; then "$$scan" -db $(GOVULNDB) ./...; \
		else echo "govulncheck: $(GOVULNDB) cannot be reached from here, so known vulnerabilities are not looked for"; fi

.PHONY: generate
generate: ## write config.schema.json and docs/man from the help and the example configuration
	@go run ./cmd/gateway config schema > config.schema.json.new && mv config.schema.json.new config.schema.json
	@go test ./cmd/gateway -run TestManPages -update

.PHONY: fmt
fmt: ## format
	@go tool -modfile=$(TOOLS) gofumpt -w .
