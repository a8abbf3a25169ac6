"""Floor 2, the state directory of this user: subnets, kept runs, logs and locks.

For cli and lab. `state` says which file is where; `archive` reads runs without a lab, `heads` lists them, `damaged` tells
of those that cannot be read, `simulated` keeps those of the simulator, `retention` removes the oldest; `logs` reads all logs
of a subnet as one. Nothing here starts or stops a process.
"""

from p2pnet.store.state import State, SubnetPaths

__all__ = ["State", "SubnetPaths"]
