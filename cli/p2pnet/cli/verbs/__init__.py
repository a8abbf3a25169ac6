"""The verbs: each declares its arguments and hands them to a command. Importing this registers them all, in this order."""

from p2pnet.cli.verbs import lifecycle as lifecycle  # noqa: I001 the order of --help
from p2pnet.cli.verbs import experiment as experiment
from p2pnet.cli.verbs import keeping as keeping
from p2pnet.cli.verbs import looking as looking
from p2pnet.cli.verbs import operating as operating
