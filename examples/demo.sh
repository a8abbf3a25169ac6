#!/usr/bin/env bash
# The main job, end to end: a subnet of ten real nodes on this machine, real artifacts, who got them, when and through whom.
set -euo pipefail
cd "$(dirname "$0")/.."

# A state of its own, so that the demo never meets a subnet of yours.
P2PNET_STATE=$(mktemp -d "${TMPDIR:-/tmp}/p2pnet-demo.XXXXXX")
export P2PNET_STATE
clean_up() {
    p2pnet down demo --yes >/dev/null 2>&1 || true
    rm -rf "$P2PNET_STATE"
}
trap clean_up EXIT

say() { printf '\n\n# %s\n' "$1"; }
run() {
    printf '$ %s\n' "$*"
    "$@"
}

say 'Start ten nodes: processes of their own, joined over QUIC with mutual TLS.'
run p2pnet up demo --nodes 10
say 'Who is there?'
run p2pnet status demo
say 'Put a real file in at a random node: who got it, when, through whom?'
run p2pnet inject demo LICENSE
say 'Twenty of 64 KiB, ten a second: the latency of a network that is not full.'
run p2pnet inject demo --size 64KiB --count 20 --rate 10/s
say 'A burst of small ones, which travel inside their announcement: what the network can take in a second ...'
run p2pnet inject demo --size 200B --count 200
say '... and large ones, which are announced and fetched, in parts.'
run p2pnet inject demo --size 1MiB --count 5 --from node-3
say 'The way one artifact took: of the latest run one that was missed, else the slowest.'
run p2pnet trace demo
say 'All runs of this subnet.'
run p2pnet runs demo
say 'Take the subnet down; the runs stay readable.'
run p2pnet down demo --yes
run p2pnet report demo
