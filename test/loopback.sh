#!/bin/sh
# Runs a program in a new network namespace, where nobody else takes a port that its tests have just let go, or has the
# same port of another address. It needs root. `make test` gives one to each package.
set -eu
[ "${1-}" = --inside ] || exec unshare --net -- "$0" --inside "$@"
shift
ip link set lo up
exec "$@"
