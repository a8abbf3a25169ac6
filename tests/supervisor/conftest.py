"""The fixtures of the node's tests: a subnet on disk, its lab, nodes and supervisors."""

from tests.node.conftest import bench as bench
from tests.node.conftest import node as node
