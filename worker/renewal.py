"""Renewal of a host: it drains and ends, and the fleet gives its devices to a fresh process at once."""

import asyncio

RENEW = 75
"""The exit code of a host that wants to be renewed (`EX_TEMPFAIL`); any other but 0 is a crash."""


class Renewal:
    """Whether a host wants to be renewed; `reason` is the first that was given, for the log."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.reason = ""

    def ask(self, reason: str) -> None:
        """Have the host drain and end; asking twice changes nothing."""
        if not self._asked.is_set():
            self.reason = reason
            self._asked.set()

    @property
    def is_asked(self) -> bool:
        """Whether somebody has asked."""
        return self._asked.is_set()

    async def wait(self) -> None:
        """Return once somebody has asked."""
        await self._asked.wait()
