"""Whether there is something to look at: a version that changes with runs and links, for those who would ask in vain."""

import asyncio
import os


class RevisionCounter:
    """Versions are of one lab process: another one's are all different."""

    def __init__(self) -> None:
        self._boot = os.urandom(4).hex()
        self._turn = 0
        self._seen: object = None
        self._changed = asyncio.Event()

    @property
    def version(self) -> str:
        """Now."""
        return f"{self._boot}.{self._turn}"

    def touch(self) -> None:
        """Something is different."""
        self._turn += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def see(self, thing: object) -> None:
        """This is how it is: news when it was another way before."""
        if thing != self._seen:
            self._seen = thing
            self.touch()

    async def beyond(self, after: str, within_s: float) -> str:
        """The version, once it is another than `after`, at the latest in so many seconds."""
        if self.version == after:
            try:
                async with asyncio.timeout(within_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
        return self.version
