"""Floor 2, the state directory of this user: subnets, kept runs, logs and locks.

For cli and lab. Nothing here starts or stops a process; `archive` reads runs without any lab.
"""

from p2pnet.store.state import State, SubnetPaths

__all__ = ["State", "SubnetPaths"]
