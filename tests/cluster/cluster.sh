#!/usr/bin/env bash
# A real Kubernetes on one bare Debian machine, one node or several, in network namespaces of its own. See README.md.
#
#   cluster.sh build              compile what is missing: kube (6 min on two cores), dns (2 min), helm (2 min),
#                                 certmanager (3 min)
#   cluster.sh up [NODES]         start and wait until the nodes are Ready (5 s); 0: a control plane alone, no scheduler
#   cluster.sh api down|up        the API server dies at once, or comes back
#   cluster.sh base               make the image localhost/p2pnet-base:trusting, for BASE_IMAGE (1 min)
#   cluster.sh images             build localhost/p2pnet-{node,operator}:test from this repository, if it has changed
#   cluster.sh image STAGE NAME   build one of them, under another name as well
#   cluster.sh load IMAGE...      give an image to every node
#   cluster.sh exec COMMAND...    run a command in the cluster's network, with KUBECONFIG, kubectl and helm
#   cluster.sh join N             one more machine, with the images that the others were given
#   cluster.sh kill-node N        the machine N dies, at once
#   cluster.sh forget N           nothing is left of the machine N, dead or alive
#   cluster.sh down               leave nothing running, mounted or listed; logs stay until the next `up`
#
# Everything made stands in CLUSTER_HOME, default ${XDG_CACHE_HOME:-~/.cache}/p2pnet-cluster. CLUSTER_NAME, default
# p2pnet-cluster, tells several clusters of one machine apart: each sees only itself.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPOSITORY=$(cd "$HERE/../.." && pwd)
CLUSTER_HOME=${CLUSTER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/p2pnet-cluster}
BIN=$CLUSTER_HOME/bin
NS=${CLUSTER_NAME:-p2pnet-cluster} # node 0 lives in the network namespace $NS, node N in $NS-N
RUN=$CLUSTER_HOME/run/$NS
LOGS=$CLUSTER_HOME/logs/$NS
WITHIN_S=240 # for a part of it to be ready, which takes seconds: the machine may be busy
HELM_VERSION=v4.3.1
NODE_IP=10.99.0.1 # node N has 10.99.0.(N+1)
CONTROLLERS_ALONE=clusterrole-aggregation,deployment,garbage-collector-controller,job,namespace,replicaset,resourcequota,\
root-ca-certificate-publisher-controller,serviceaccount,serviceaccount-token
STRAY="/var/lib/kubelet /var/lib/cni /var/log/containers" # fixed places of kubelet and CNI, hidden from the machine
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
BASE=localhost/p2pnet-base:trusting
PACKAGES=(containerd runc containernetworking-plugins iptables conntrack iproute2 buildah debootstrap gcc libc6-dev openssl)
export KUBECONFIG=$RUN/admin.kubeconfig PATH=$BIN:$PATH BUILDAH_RUNTIME=runc # crun refuses machines with both kinds of cgroups

# shellcheck source=tests/cluster/config.sh
source "$HERE/config.sh"

die() {
  echo "cluster.sh: $*" >&2
  exit 2
}

# --- building ---

install_packages() {
  local package missing=()
  for package in "${PACKAGES[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  [ "$(id -u)" = 0 ] || die "not root, and these Debian packages are missing: ${missing[*]}"
  DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null; }
}

build() {
  install_packages
  command -v go >/dev/null || die "Go is missing: https://go.dev/dl"
  mkdir -p "$BIN"
  local version flags=k8s.io/component-base/version
  version=$(sed -n 's#^\s*k8s.io/kubernetes ##p' "$HERE/kube/go.mod")
  compile kube -s -w -X $flags.gitVersion="$version" -X $flags.gitMajor=1 -X "$flags.gitMinor=$(cut -d. -f2 <<<"$version")"
  compile dns -s -w
  compile certmanager -s -w
  definitions
  newer helm "$HELM_VERSION" || { GOBIN=$BIN go install -trimpath "helm.sh/helm/v4/cmd/helm@$HELM_VERSION" && stamp helm "$HELM_VERSION"; }
  printf '#!/bin/sh\nexec "%s/kube" kubectl "$@"\n' "$BIN" >"$BIN/kubectl"
  chmod +x "$BIN/kubectl"
}

compile() { # NAME LINKER-FLAGS...: only when its sources are not those it was last made of
  local name=$1 made_of
  shift
  made_of=$(cat "$HERE/$name"/{main.go,go.mod,go.sum} | sha256sum)
  newer "$name" "$made_of" && return
  nice -n 5 go build -C "$HERE/$name" -trimpath -buildvcs=false -o "$BIN/$name" -ldflags "$*" .
  stamp "$name" "$made_of"
}

definitions() { # cert-manager's own, of the version its controllers are of
  local folder=$CLUSTER_HOME/certmanager
  newer certmanager "$(cat "$folder/.version" 2>/dev/null)" && return
  mkdir -p "$folder"
  cp -f "$(go list -C "$HERE/certmanager" -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml "$folder"
  cp "$BIN/.certmanager" "$folder/.version"
}

newer() { [ -x "$BIN/$1" ] && [ "$(cat "$BIN/.$1" 2>/dev/null)" = "$2" ]; }

stamp() { echo "$2" >"$BIN/.$1"; }

# --- images ---

base() { # Debian's own Python, for machines that reach no image registry; and one that trusts what this machine does
  debian
  local made_of folder format='{{index .OCIv1.Config.Labels "made-of"}}'
  [ -e $CERTIFICATES ] || { buildah tag localhost/p2pnet-base:bookworm "$BASE" && return; }
  made_of=$({ image_id localhost/p2pnet-base:bookworm && cat $CERTIFICATES; } | sha256sum | cut -c1-32)
  [ "$(buildah inspect --type image --format "$format" "$BASE" 2>/dev/null)" != "$made_of" ] || return 0
  folder=$(mktemp -d)
  cp $CERTIFICATES "$folder/ca.crt"
  # A machine may trust an authority of its own for its package index; what is built on it must, too.
  printf 'FROM localhost/p2pnet-base:bookworm\nCOPY ca.crt %s\nENV PIP_CERT=%s\n' $CERTIFICATES $CERTIFICATES |
    buildah bud -q --label "made-of=$made_of" -f - -t "$BASE" "$folder" >/dev/null
  rm -rf "$folder"
}

debian() {
  buildah inspect localhost/p2pnet-base:bookworm >/dev/null 2>&1 && return
  install_packages
  local root=$CLUSTER_HOME/base
  if [ ! -e "$root/usr/bin/python3" ]; then
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root.new" >/dev/null
    mv "$root.new" "$root"
  fi
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,info,locale,man}/*
  printf 'FROM scratch\nCOPY . /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8\n' |
    buildah bud -q -f - -t localhost/p2pnet-base:bookworm "$root" >/dev/null
}

image_id() { buildah inspect --type image --format '{{.FromImageID}}' "$1" 2>/dev/null; } # IMAGE

images() {
  image node
  image operator
}

image() { # STAGE [NAME]: what buildah finds in its cache costs it seconds, so it is asked only where files have changed
  local target=$1 image=localhost/p2pnet-$1:test made_of
  base
  made_of=$(sources | sha256sum | cut -c1-32)
  if [ "$(cat "$CLUSTER_HOME/images/$target" 2>/dev/null)" != "$made_of $(image_id "$image")" ]; then
    buildah bud -q --layers --build-arg BASE_IMAGE="$BASE" --target "$target" -t "$image" \
      -f "$REPOSITORY/Dockerfile" "$REPOSITORY" >/dev/null
    mkdir -p "$CLUSTER_HOME/images"
    echo "$made_of $(image_id "$image")" >"$CLUSTER_HOME/images/$target"
  fi
  [ $# = 1 ] || buildah tag "$image" "$2"
}

sources() { # all that an image is made of
  image_id "$BASE"
  cd "$REPOSITORY"
  sed -n 's/^!//p' .dockerignore | xargs -I{} find {} -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*' -print0 |
    sort -z | xargs -0 sha256sum Dockerfile .dockerignore
}

load() {
  local image file node
  mkdir -p "$RUN/images" # kept there for machines that join
  for image in "$@"; do
    file=$RUN/images/${image//[\/:]/_}.tar
    rm -f "$file" # an archive is not written twice
    buildah push -q "$image" "docker-archive:$file:$image" # of all forms the one that buildah does not compress
    for node in "$RUN"/node*/; do import "$node" "$file"; done
  done
}

import() { ctr -a "${1%/}/containerd.sock" -n k8s.io images import "$2" >/dev/null; } # FOLDER-OF-A-NODE ARCHIVE

pause_image() { # the sandbox image, from nothing
  if ! buildah inspect localhost/pause:1 >/dev/null 2>&1; then
    local folder
    folder=$(mktemp -d)
    gcc -Os -static -o "$folder/pause" "$HERE/pause/pause.c"
    buildah bud -q -t localhost/pause:1 -f "$HERE/pause/Dockerfile" "$folder" >/dev/null
    rm -rf "$folder"
  fi
  load localhost/pause:1
}

# --- processes ---

namespace() { [ "$1" = 0 ] && echo "$NS" || echo "$NS-$1"; }

inside() { nsenter --net="/run/netns/$NS" "$@"; }

start() { # NODE NAME COMMAND...
  local namespace name=$2
  namespace=$(namespace "$1")
  shift 2
  setsid nsenter --net="/run/netns/$namespace" "$@" >"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$RUN/$name.pid"
}

stop() { # NAME...: TERM to all, two seconds' grace, KILL; none is left
  local name pids=()
  for name in "$@"; do
    [ -e "$RUN/$name.pid" ] && pids+=("$(cat "$RUN/$name.pid")")
    rm -f "$RUN/$name.pid"
  done
  [ ${#pids[@]} -gt 0 ] || return 0
  kill "${pids[@]}" 2>/dev/null || true
  for _ in $(seq 20); do
    kill -0 "${pids[@]}" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "${pids[@]}" 2>/dev/null || true
  until_true gone "${pids[@]}"
}

gone() { # PID...: a zombie, which only its parent takes away, is gone, too
  local pid
  for pid in "$@"; do
    [ ! -e "/proc/$pid" ] || grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null || [ ! -e "/proc/$pid" ] || return 1
  done
}

until_true() { # COMMAND...: for as long as it takes on a busy machine
  local deadline=$((SECONDS + WITHIN_S))
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || die "timed out: $*; logs are in $LOGS"
    sleep 0.2
  done
}

# --- up and down ---

up() {
  local nodes=${1:-1} n
  [ "$(id -u)" = 0 ] || die "up needs root: namespaces, mounts and cgroups"
  [ -x "$BIN/kube" ] || die "not built yet: cluster.sh build"
  [ ! -e "/run/netns/$NS" ] || die "a cluster is up already: cluster.sh down"
  rm -rf "$LOGS" "$RUN"
  # shellcheck disable=SC2086 # several folders
  mkdir -p "$RUN"/{pki,etcd} "$LOGS" $STRAY
  network "$nodes"
  cluster_config
  cd "$RUN"
  control_plane "$nodes"
  [ "$nodes" = 0 ] || machines "$nodes"
  until_true inside kubectl get serviceaccount default
}

machines() {
  local n
  start 0 scheduler kube scheduler --kubeconfig="$KUBECONFIG" --leader-elect=false
  start 0 dns dns -conf Corefile
  for n in $(seq 0 $(($1 - 1))); do node "$n"; done
  for n in $(seq 0 $(($1 - 1))); do ready "$n"; done
  pause_image
}

ready() { until_true inside kubectl wait --for=condition=Ready "node/node$1" --timeout=1s; } # N

join() { # N
  local file
  cd "$RUN"
  wire "$1"
  node "$1"
  ready "$1"
  for file in "$RUN"/images/*.tar; do import "$RUN/node$1" "$file"; done
}

forget() { # N
  [ ! -e "/run/netns/$(namespace "$1")" ] || kill_node "$1"
  inside kubectl delete node "node$1" --ignore-not-found >/dev/null
  inside ip route del "10.244.$1.0/24" 2>/dev/null || true
  rm -rf "$RUN/node$1"
}

network() { # node 0 holds the bridge "node0"; every further node hangs on it by a veth pair; nothing leads out
  local n
  for n in $(seq 0 $(($1 > 0 ? $1 - 1 : 0))); do wire "$n"; done # a control plane without machines has a network, too
}

wire() { # N
  local n=$1 namespace
  namespace=$(namespace "$n")
  ip netns add "$namespace"
  nsenter --net="/run/netns/$namespace" ip link set lo up
  if [ "$n" = 0 ]; then
    inside ip link add node0 type bridge # some kernels lack the dummy device; a bridge without ports serves
  else
    inside ip link add "to-node$n" type veth peer name "node$n"
    inside ip link set "node$n" netns "$namespace"
    inside ip link set "to-node$n" master node0 up
    inside ip route add "10.244.$n.0/24" via "10.99.0.$((n + 1))"
  fi
  nsenter --net="/run/netns/$namespace" sh -ec "ip addr add 10.99.0.$((n + 1))/24 dev node$n; ip link set node$n up
    sysctl -qw net.ipv4.ip_forward=1
    ip route add default via 10.99.0.$([ "$n" = 0 ] && echo 254 || echo 1) dev node$n" # Kubernetes wants a default route
}

control_plane() { # NODES
  local controllers=()
  # Nobody speaks for the nodes of a control plane alone: what watches over nodes would take their pods away.
  [ "$1" != 0 ] || controllers=("--controllers=$CONTROLLERS_ALONE")
  start 0 etcd kube etcd --data-dir etcd --unsafe-no-fsync --listen-peer-urls http://127.0.0.1:2380 \
    --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
  apiserver
  start 0 controllers kube controller-manager --kubeconfig="$KUBECONFIG" --leader-elect=false "${controllers[@]}" \
    --service-account-private-key-file=pki/sa.key --use-service-account-credentials=true --root-ca-file=pki/apiserver.crt
}

apiserver() {
  start 0 apiserver kube apiserver --etcd-servers=http://127.0.0.1:2379 --service-cluster-ip-range=10.96.0.0/16 \
    --service-account-issuer=https://kubernetes.default.svc --service-account-signing-key-file=pki/sa.key \
    --service-account-key-file=pki/sa.pub --token-auth-file=pki/tokens.csv --authorization-mode=Node,RBAC \
    --cert-dir=pki --bind-address=$NODE_IP --advertise-address=$NODE_IP --secure-port=6443 --allow-privileged=true \
    --kubelet-preferred-address-types=InternalIP
  until_true inside kubectl get --raw /readyz
}

api() { # down | up
  case $1 in
    down)
      kill -9 "$(cat "$RUN/apiserver.pid")"
      rm "$RUN/apiserver.pid"
      ;;
    up) cd "$RUN" && apiserver ;;
    *) die "api down, or api up" ;;
  esac
}

node() { # containerd, kubelet and proxy of node N, in a mount namespace of their own: what they mount ends with them
  local folder=$RUN/node$1 controller
  mkdir -p "$folder"/{cni,containerd,kubelet,pod-logs}
  node_config "$1" "$folder"
  for controller in /sys/fs/cgroup/*/; do # two kubelets on one machine need cgroup roots of their own, which must exist
    mkdir -p "$controller/$NS-node$1" 2>/dev/null || continue
    [ ! -e "$controller/cpuset.cpus" ] || {
      cat "$controller/cpuset.cpus" >"$controller/$NS-node$1/cpuset.cpus"
      cat "$controller/cpuset.mems" >"$controller/$NS-node$1/cpuset.mems"
    }
  done
  # shellcheck disable=SC2016 # the inner shell's variables
  start "$1" "containerd$1" unshare --mount --propagation private sh -ec '
    for folder in /run $0; do mount -t tmpfs p2pnet "$folder"; done
    exec containerd -c "$1"' "$STRAY" "$folder/containerd.toml"
  until_true ctr -a "$folder/containerd.sock" version
  local mounts
  mounts=/proc/$(cat "$RUN/containerd$1.pid")/ns/mnt
  start "$1" "kubelet$1" nsenter --mount="$mounts" --wd="$RUN" kube kubelet --config="$folder/kubelet.yaml" \
    --kubeconfig="$KUBECONFIG" --root-dir="$folder/kubelet" --hostname-override="node$1" --node-ip="10.99.0.$(($1 + 1))"
  start "$1" "proxy$1" nsenter --mount="$mounts" --wd="$RUN" kube proxy --config="$folder/proxy.yaml"
}

kill_node() { # kubelet, runtime, containers and network, at once
  stop "kubelet$1" "proxy$1"
  kill_containers "$RUN/node$1"
  stop "containerd$1"
  ip netns del "$(namespace "$1")"
}

kill_containers() { # of one node's folder
  ps -ww -eo pid=,args= | awk -v socket="$1/containerd.sock" '/[c]ontainerd-shim-runc-v2/ && index($0, socket) {print $1}' |
    while read -r shim; do
      pkill -9 -P "$shim" || true
      kill -9 "$shim" 2>/dev/null || true
    done
}

names_of() { find "$RUN" -maxdepth 1 -name "$1*.pid" -printf '%f\n' 2>/dev/null | sed 's/\.pid$//'; }

down() {
  local folder
  # shellcheck disable=SC2046 # names of ours, without spaces
  stop dns $(names_of kubelet) $(names_of proxy) scheduler controllers apiserver etcd
  for folder in "$RUN"/node*/; do [ -d "$folder" ] && kill_containers "${folder%/}"; done
  # shellcheck disable=SC2046
  stop $(names_of containerd)
  for folder in "/run/netns/$NS"-[0-9]* "/run/netns/$NS"; do [ ! -e "$folder" ] || ip netns del "${folder##*/}"; done
  rm -rf "$RUN"
  # Where they were made for this, they are empty. Not while another cluster has mounts on them: those would go, too.
  # shellcheck disable=SC2086 # several folders
  rmdir "$CLUSTER_HOME/run" 2>/dev/null && rmdir $STRAY 2>/dev/null || true
  (WITHIN_S=60 until_true no_groups) || true # those of processes that have just been killed go when these are gone
}

no_groups() {
  find /sys/fs/cgroup -depth -type d -path "*/$NS-node*" -exec rmdir {} + 2>/dev/null || true
  [ -z "$(find /sys/fs/cgroup -type d -path "*/$NS-node*" -print -quit)" ]
}

locked() { # LOCK COMMAND...: one at a time builds, starts or ends, and one makes images, which keeps nobody from starting
  mkdir -p "$CLUSTER_HOME"
  exec 9>"$CLUSTER_HOME/$1"
  flock 9
  shift
  "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
  build | down) locked lock "$command" ;;
  up) locked lock up "${1:-1}" ;;
  base | images) locked images-lock "$command" ;;
  image) locked images-lock image "$@" ;;
  load) load "$@" ;;
  join) locked lock join "$1" ;;
  kill-node) kill_node "$1" ;;
  forget) locked lock forget "$1" ;;
  api) locked lock api "${1:-}" ;;
  exec) inside "$@" ;;
  *)
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
