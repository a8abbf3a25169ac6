"""Floor 2, the typed client of a lab's `/v1`: over a unix socket here, through the API server's proxy in a cluster.

For cli and operator. `client` has the methods, `http` what all transports share, `unix`, `aio` and `proxy` are the
transports; `kube`, `kubeconfig` and `kube_lookup` reach a cluster with a person's kubeconfig.
"""

from p2pnet.lab_client.client import Downloaded, LabClient
from p2pnet.lab_client.http import ProblemError

__all__ = ["Downloaded", "LabClient", "ProblemError"]
