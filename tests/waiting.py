"""Waiting for what has no event to wait for: other processes and servers."""

import asyncio
from collections.abc import Callable


async def eventually(condition: Callable[[], bool], *, within: float = 10.0) -> None:
    """Return as soon as `condition` holds; raises `TimeoutError` if it does not within that many seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - there is no event, that is the point
            await asyncio.sleep(0.01)
