# shellcheck shell=bash disable=SC2154 # NS, RUN, NODE_IP and KUBECONFIG are cluster.sh's, which reads this
# What the cluster's parts are told: keys, kubeconfig, DNS, and per node containerd, network, kubelet and proxy.

cluster_config() {
  openssl genrsa -out "$RUN/pki/sa.key" 2048 2>/dev/null
  openssl rsa -in "$RUN/pki/sa.key" -pubout -out "$RUN/pki/sa.pub" 2>/dev/null
  local token
  token=$(openssl rand -hex 16)
  echo "$token,admin,admin,\"system:masters\"" >"$RUN/pki/tokens.csv"
  cat >"$KUBECONFIG" <<END
apiVersion: v1
kind: Config
clusters: [{name: p2pnet, cluster: {server: "https://$NODE_IP:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: p2pnet, context: {cluster: p2pnet, user: admin}}]
current-context: p2pnet
END
  chmod 600 "$KUBECONFIG" "$RUN/pki/tokens.csv"
  echo "nameserver $NODE_IP" >"$RUN/resolv.conf"
  cat >"$RUN/Corefile" <<END
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $KUBECONFIG
        pods insecure
        ttl 5
    }
    cache 5
}
END
}

node_config() { # N FOLDER
  local folder=$2
  cat >"$folder/containerd.toml" <<END
version = 2
root = "$folder/containerd/root"
state = "$folder/containerd/state"
[grpc]
  address = "$folder/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true   # without CAP_SYS_RESOURCE the score cannot be lowered
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$folder/cni"
END
  cat >"$folder/cni/10-p2pnet.conflist" <<END
{"cniVersion": "0.4.0", "name": "p2pnet", "plugins": [
  {"type": "ptp", "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$folder/ipam", "ranges": [[{"subnet": "10.244.$1.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
  kubelet_config "$1" "$folder"
  cat >"$folder/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $KUBECONFIG}
clusterCIDR: 10.244.0.0/16
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
hostnameOverride: node$1
mode: iptables
END
}

kubelet_config() { # N FOLDER
  cat >"$2/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
cgroupRoot: /$NS-node$1
clusterDNS: ["$NODE_IP"]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$2/containerd.sock
enforceNodeAllocatable: []
evictionHard: {memory.available: "100Mi", nodefs.available: "1%", imagefs.available: "1%"}
failCgroupV1: false                 # cgroup v1 machines
failSwapOn: false
featureGates: {KubeletInUserNamespace: true}   # tolerates sysctls and rlimits it may not set
imageGCHighThresholdPercent: 100
localStorageCapacityIsolation: false
maxPods: 250
syncFrequency: 1s                   # changed Secrets reach their pods when the kubelet looks next; 1m by default
podLogsDir: $2/pod-logs
resolvConf: $RUN/resolv.conf
END
}
