"""What stands in the cluster of cert-manager's, for Subnets that name an Issuer. It may be absent: that is no failure of ours."""

from p2pnet.operator.kube.api import CERTIFICATE, ApiError, Cluster, ForbiddenError, name_of
from p2pnet.operator.subnet.context import Observed, SubnetContext

_MISSING = (
    "the API server knows no Certificates of cert-manager.io/v1: install cert-manager (cert-manager.io/docs/installation),"
    " or make the Subnet anew with issuer: builtin"
)
_FORBIDDEN = "the operator may not see Certificates: set the chart's certManager.enabled"


async def observe(cluster: Cluster, context: SubnetContext, observed: Observed) -> None:
    """Add the Subnet's Certificates to `observed`, or why there are none to be seen. Raises ApiError for what will pass."""
    try:
        found = await cluster.find(CERTIFICATE, context.namespace, context.selector)
    except ForbiddenError as error:
        observed.issuer_problem = ("Forbidden", f"{_FORBIDDEN} ({error})")
        return
    except ApiError as error:
        if error.status != 404:
            raise
        observed.issuer_problem = ("CertManagerMissing", _MISSING)
        return
    observed.children[CERTIFICATE] = {name_of(one): one for one in found if context.owns(one)}
