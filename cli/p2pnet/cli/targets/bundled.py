"""The runs of a bundle, read as those that are kept here."""

import atexit

from p2pnet.cli.targets.simulated import SimTarget
from p2pnet.model.jobs import RunFile
from p2pnet.store.bundles import OpenedBundle
from p2pnet.store.heads import RunHead


class BundleTarget(SimTarget):
    """Kept runs, and no subnet: nothing of them goes on, whatever made them. What was unpacked is removed at the end."""

    def __init__(self, opened: OpenedBundle) -> None:
        super().__init__(opened.state)
        self.bundled = opened.manifest.subnet
        """The subnet whose runs they are."""
        atexit.register(opened.close)

    def owns(self, run: "RunFile | RunHead") -> bool:
        """All of them."""
        del run
        return True
