"""Notices that chats of devices have changed, for whoever looks at them; a lost one costs a moment, nothing else."""

import asyncio
from collections.abc import Collection, Iterable
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

NOTICE_SECONDS = 2.0

GATHER_SECONDS = 0.2
"""How long changes are gathered into one notice."""

# One command, however many devices: most of a notice's cost is that of sending a command.
_PUBLISH = "for _, device in ipairs(ARGV) do redis.call('PUBLISH', 'siaran:chats:' .. device, '') end"


def chat_channel(device_id: UUID) -> str:
    """The Redis channel on which changes of a device's chats are told; messages on it are empty."""
    return f"siaran:chats:{device_id}"


async def announce_chats(redis: Redis, device_ids: Collection[UUID]) -> None:
    """Tell who is looking that chats of these devices have changed, after the commit; nothing is raised when Redis is away."""
    if not device_ids:
        return
    try:
        async with asyncio.timeout(NOTICE_SECONDS):
            await redis.eval(_PUBLISH, 0, *(str(device_id) for device_id in device_ids))
    except (RedisError, OSError, TimeoutError):
        return


class ChatNotices:
    """Announces what a process changes, many changes at a time; whoever tells of them waits for nothing."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._changed: set[UUID] = set()
        self._task: asyncio.Task[None] | None = None

    def tell(self, device_ids: Iterable[UUID]) -> None:
        """Chats of these devices have changed, and that is committed."""
        self._changed.update(device_ids)
        if self._changed and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._announce(), name="chat-notices")

    async def close(self) -> None:
        """Announce what has been told."""
        if self._task is not None:
            await self._task

    async def _announce(self) -> None:
        while self._changed:
            await asyncio.sleep(GATHER_SECONDS)
            changed, self._changed = self._changed, set()
            await announce_chats(self._redis, changed)
