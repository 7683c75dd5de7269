"""Keeps connecting and all other calls into the WhatsApp library apart: its table of clients has no lock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from siaran.gateway.interface import NotConnected

FINISH_SECONDS = 10.0
"""How long connecting waits for calls that are under way, all of which should have ended before."""


class Gate:
    """Either one client is being connected, or any number of calls are under way, in this process."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._free = asyncio.Event()
        self._free.set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._calls = 0

    @asynccontextmanager
    async def connecting(self, pause_seconds: float) -> AsyncIterator[None]:
        """After a pause, hold off all calls; others that want to connect wait for their turn.

        Raises `RuntimeError` if calls are under way that do not end: the process serves already.
        """
        async with self._turn:
            await asyncio.sleep(pause_seconds)
            self._free.clear()
            try:
                try:
                    async with asyncio.timeout(FINISH_SECONDS):
                        await self._quiet.wait()
                except TimeoutError:
                    raise RuntimeError("no device is connected while others are used in the same process") from None
                yield
            finally:
                self._free.set()

    async def until_free(self) -> None:
        """Return when nothing is being connected: a call that is begun without another wait is let through."""
        while not self._free.is_set():
            await self._free.wait()

    def begin_call(self) -> None:
        """Note a call, which `end_call` is to follow when it has really ended; raises `NotConnected` during a connecting."""
        if not self._free.is_set():
            raise NotConnected("a device of this process is being connected")
        self._calls += 1
        self._quiet.clear()

    def end_call(self) -> None:
        """A call has ended."""
        self._calls -= 1
        if not self._calls:
            self._quiet.set()
