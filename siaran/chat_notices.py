"""Notices that chats of devices have changed, for whoever looks at them; a lost one costs a moment, nothing else."""

import asyncio
from collections.abc import Collection
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

NOTICE_SECONDS = 2.0

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
