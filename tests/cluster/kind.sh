#!/usr/bin/env bash
# The real kind by podman, on a bare Debian machine without docker and without any image registry. See README.md.
#
#   kind.sh build            compile kind, kubeadm and crictl (3 min), make the image of a node (1 min)
#   kind.sh exec COMMAND...  run a command with kind in PATH and all that kind and p2pnet must be told
#
# What is made stands in CLUSTER_HOME, as for cluster.sh, whose Kubernetes it takes.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CLUSTER_HOME=${CLUSTER_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/p2pnet-cluster}
BIN=$CLUSTER_HOME/bin
NODE=$HERE/kind_node
ROOT=$CLUSTER_HOME/kind-root
KIND_VERSION=v0.33.0
CRICTL_VERSION=v1.36.0
PACKAGES=(podman runc conmon jq) # without crun, which buildah would prefer, and which refuses machines with both kinds of cgroups
INSIDE=systemd,systemd-sysv,dbus,containerd,runc,containernetworking-plugins,iptables,conntrack,iproute2,ethtool,socat,mount,kmod,procps
export BUILDAH_RUNTIME=runc

die() {
  echo "kind.sh: $*" >&2
  exit 2
}

build() {
  [ "$(id -u)" = 0 ] || die "build needs root"
  bash "$HERE/cluster.sh" build
  bash "$HERE/cluster.sh" base
  local package missing=()
  for package in "${PACKAGES[@]}"; do dpkg-query -W "$package" >/dev/null 2>&1 || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
  program kind "sigs.k8s.io/kind@$KIND_VERSION"
  program crictl "sigs.k8s.io/cri-tools/cmd/crictl@$CRICTL_VERSION"
  kubeadm
  node
  python_image
}

program() { # NAME MODULE@VERSION
  newer "$1" "$2" && return
  GOBIN=$BIN CGO_ENABLED=0 go install -trimpath "$2"
  echo "$2" >"$BIN/.$1"
}

kubeadm() {
  local made_of version flags=k8s.io/component-base/version
  made_of=$(cat "$NODE"/kubeadm/{main.go,go.mod,go.sum} | sha256sum)
  newer kubeadm "$made_of" && return
  version=$(kubernetes_version)
  nice -n 5 go build -C "$NODE/kubeadm" -trimpath -buildvcs=false -o "$BIN/kubeadm" -ldflags "-s -w -X $flags.gitVersion=$version
    -X $flags.gitMajor=1 -X $flags.gitMinor=$(cut -d. -f2 <<<"$version")" .
  echo "$made_of" >"$BIN/.kubeadm"
}

kubernetes_version() { sed -n 's#^\s*k8s.io/kubernetes ##p' "$HERE/kube/go.mod"; }

newer() { [ -x "$BIN/$1" ] && [ "$(cat "$BIN/.$1" 2>/dev/null)" = "$2" ]; }

node() { # the image of a node, with that of the control plane in it
  local made_of folder image=localhost/p2pnet-kind-node:test format='{{index .OCIv1.Config.Labels "made-of"}}'
  made_of=$(find "$NODE" -maxdepth 1 -type f | sort | xargs cat "$BIN"/.{kube,dns,kubeadm,crictl} | sha256sum | cut -c1-32)
  [ "$(buildah inspect --type image --format "$format" "$image" 2>/dev/null)" != "$made_of" ] || return 0
  if [ ! -e "$ROOT/usr/bin/systemctl" ]; then
    debootstrap --variant=minbase --include="$INSIDE" bookworm "$ROOT.new" >/dev/null
    rm -rf "$ROOT.new"/var/cache/apt/* "$ROOT.new"/var/lib/apt/lists/* "$ROOT.new"/usr/share/{doc,info,locale,man}/*
    mv "$ROOT.new" "$ROOT"
  fi
  folder=$(mktemp -d -p "$CLUSTER_HOME")
  # shellcheck disable=SC2064 # now
  trap "rm -rf '$folder'" RETURN
  find "$NODE" -maxdepth 1 -type f -exec cp {} "$folder" \;
  cp -l "$BIN"/{kube,dns,kubeadm,crictl} "$folder"
  cp -al "$ROOT" "$folder/root"
  kubernetes_version >"$folder/version"
  mkdir "$folder/images"
  buildah bud -q -t localhost/p2pnet-control-plane:test -f "$folder/Dockerfile.control-plane" "$folder" >/dev/null
  buildah push -q --disable-compression localhost/p2pnet-control-plane:test \
    "docker-archive:$folder/images/control-plane.tar:localhost/p2pnet-control-plane:test"
  pause "$folder/images/pause.tar"
  buildah bud -q --label "made-of=$made_of" -t "$image" -f "$folder/Dockerfile" "$folder" >/dev/null
}

pause() { # FILE
  if ! buildah inspect localhost/pause:1 >/dev/null 2>&1; then
    gcc -Os -static -o "$HERE/pause/pause" "$HERE/pause/pause.c"
    buildah bud -q -t localhost/pause:1 -f "$HERE/pause/Dockerfile" "$HERE/pause" >/dev/null
    rm "$HERE/pause/pause"
  fi
  buildah push -q localhost/pause:1 "docker-archive:$1:localhost/pause:1"
}

python_image() { # what the Dockerfile begins with, where no registry has it: that of cluster.sh, for then what it built is not built again
  local python=docker.io/library/python:3.13-slim found
  if ! found=$(buildah inspect --type image --format '{{.OCIv1.Config.Env}}' $python 2>/dev/null) || [[ $found == *PIP_CERT=* ]]; then
    buildah tag localhost/p2pnet-base:trusting $python
  fi
}

inside() { # COMMAND...
  mkdir -p /lib/modules "$CLUSTER_HOME"
  cat >"$CLUSTER_HOME/containers.conf" <<END
[containers]
cgroupns = "private"
pids_limit = 0
[engine]
runtime = "p2pnet"
runtime_supports_nocgroups = ["p2pnet"]
runtime_supports_json = ["p2pnet"]
cgroup_manager = "cgroupfs"
[engine.runtimes]
p2pnet = ["$NODE/runtime"]
END
  export CONTAINERS_CONF=$CLUSTER_HOME/containers.conf KIND_EXPERIMENTAL_PROVIDER=podman P2PNET_KIND_CONFIG=$NODE/cluster.yaml
  export PATH=$BIN:$PATH
  exec "$@"
}

command=${1:-}
[ $# -eq 0 ] || shift
case $command in
  build)
    mkdir -p "$CLUSTER_HOME"
    exec 9>"$CLUSTER_HOME/kind-lock"
    flock 9
    build
    ;;
  exec) inside "$@" ;;
  *)
    sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
