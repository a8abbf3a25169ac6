#!/usr/bin/env bash
# Runs the first command block of README.md, line by line, in a state of its own: what a newcomer types must work.
set -euo pipefail
cd "$(dirname "$0")/.."
P2PNET_STATE=$(mktemp -d "${TMPDIR:-/tmp}/p2pnet-readme.XXXXXX")
export P2PNET_STATE
trap '.venv/bin/p2pnet down --all --yes >/dev/null 2>&1 || true; rm -rf "$P2PNET_STATE"' EXIT
block=$(awk '/^```console$/ {on = 1; next} /^```$/ {if (on) exit} on' README.md)
test -n "$block"
while IFS= read -r line; do
    command=${line%%  #*}
    printf '$ %s\n' "$command"
    eval "$command"
done <<<"$block"
