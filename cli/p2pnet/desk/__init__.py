"""Floor 2, the desk: typed client of a lab's `/v1`, the local state directory, and the reader of run archives.

For cli, lab and operator. Nothing here starts or stops a process; `archive` reads runs without any lab.
"""

from p2pnet.desk.client import Desk, Downloaded
from p2pnet.desk.errors import ProblemError
from p2pnet.desk.state import State, SubnetPaths

__all__ = ["Desk", "Downloaded", "ProblemError", "State", "SubnetPaths"]
