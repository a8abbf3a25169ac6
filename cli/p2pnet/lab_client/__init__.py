"""Floor 2, the typed client of a lab's `/v1`: over a unix socket here, through the API server's proxy in a cluster.

For cli and operator. `kube` and `kubeconfig` are how a person's kubeconfig reaches a cluster.
"""

from p2pnet.lab_client.client import Downloaded, LabClient
from p2pnet.lab_client.http import ProblemError

__all__ = ["Downloaded", "LabClient", "ProblemError"]
