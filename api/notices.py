"""News for live pages: one Redis subscription for the whole process, and none while nobody waits for any."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger()

PATTERNS = ("pairing:*",)
AGAIN_SECONDS = 1.0


class Notices:
    """Rings those who listen to a channel. A ring may be lost with its connection: look at the truth now and then, too."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._following: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever something is published on a channel; whoever has heard it clears it."""
        event = asyncio.Event()
        self._listeners.setdefault(channel, set()).add(event)
        if self._following is None:
            self._following = asyncio.create_task(self._follow())
        try:
            yield event
        finally:
            self._listeners[channel].discard(event)
            if not self._listeners[channel]:
                del self._listeners[channel]
            if not self._listeners and self._following is not None:
                self._following.cancel()
                self._following = None

    async def _follow(self) -> None:
        while True:
            try:
                async with self._redis.pubsub() as subscription:
                    await subscription.psubscribe(*PATTERNS)
                    self._ring(*self._listeners)  # for what was published before
                    async for message in subscription.listen():
                        if message["type"] == "pmessage":
                            self._ring(message["channel"])
            except (RedisError, OSError) as error:
                log.warning("notices_lost", error=type(error).__name__)
            await asyncio.sleep(AGAIN_SECONDS)

    def _ring(self, *channels: str) -> None:
        for channel in channels:
            for event in self._listeners.get(channel, ()):
                event.set()


async def heard(event: asyncio.Event, within: float) -> bool:
    """Wait for a ring, up to so many seconds; returns whether there was one."""
    try:
        async with asyncio.timeout(within):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
