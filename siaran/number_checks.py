"""Whether a number has a WhatsApp account: asked seldom, and remembered, because many such questions endanger an account."""

import asyncio
import contextlib
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import Conflict, SiaranError, TooManyRequests, Unavailable
from siaran.host_reads import HostReader
from siaran.models import Device, DeviceStatus, Host
from siaran.tenancy import select_owned

log = structlog.get_logger()

A_MINUTE = 10
"""Numbers that one device asks about in a minute at most."""
PRESENT_FOR = timedelta(days=1)
"""How long it is remembered that a number has an account."""
ABSENT_FOR = timedelta(minutes=10)
"""The same for one that has none: its owner may be about to open one."""
PATIENCE_SECONDS = 4.0
"""How long a message waits for the check of its number."""
REDIS_PATIENCE_SECONDS = 2.0
"""What Redis has for an answer."""
AWAY_FOR = timedelta(seconds=30)
"""How long no message waits for a device that has not answered."""

_WINDOW = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class NumberChecks:
    """Asks devices about numbers; what they said is kept in Redis, for each user apart."""

    reader: HostReader
    redis: Redis

    async def has_account(self, user_id: UUID, device_id: UUID, phone: str) -> bool:
        """Whether a phone (digits, international form) has an account, as a device of the user sees it.

        Raises `TooManyRequests` above `A_MINUTE`, and what `HostReader` does: `Unavailable` while the device is not online.
        """
        key = f"siaran:account:{sha256(f'{user_id}|{phone}'.encode()).hexdigest()[:32]}"
        try:
            async with asyncio.timeout(REDIS_PATIENCE_SECONDS):
                if (known := await self.redis.get(key)) is not None:
                    return bool(int(known))
                await self._count(device_id)
        except (RedisError, OSError) as error:  # uncounted questions might be too many
            raise Unavailable("numbers cannot be checked at the moment") from error
        found = await self.reader.check_numbers(user_id, device_id, [phone])
        if phone not in found:
            raise Unavailable("WhatsApp said nothing about this number; try again in a moment")
        present = found[phone]
        await self._remember(key, int(present), PRESENT_FOR if present else ABSENT_FOR)
        return present

    async def is_known_absent(self, user_id: UUID, device_id: UUID, phone: str) -> bool:
        """Whether a message need not be tried: False where that cannot be told now, for whatever reason."""
        away = f"siaran:throttle:account:{device_id}:away"
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return not await self.redis.exists(away) and not await self.has_account(user_id, device_id, phone)
        except TooManyRequests:
            return False
        except (SiaranError, RedisError, OSError) as error:  # a timeout is an OSError
            log.info("number_not_checked", device=str(device_id), error=type(error).__name__)
        await self._remember(away, 1, AWAY_FOR)
        return False

    async def _remember(self, key: str, value: int, for_so_long: timedelta) -> None:
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(REDIS_PATIENCE_SECONDS):
                await self.redis.set(key, value, ex=for_so_long)

    async def _count(self, device_id: UUID) -> None:
        key = f"siaran:throttle:account:{device_id}"
        async with self.redis.pipeline() as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, _WINDOW, nx=True)
            pipeline.ttl(key)
            asked, _, left = await pipeline.execute()
        if asked > A_MINUTE:
            detail = f"a device asks about {A_MINUTE} numbers a minute at most: more endanger its account"
            raise TooManyRequests(max(left, 1), detail)


async def find_online_device(session: AsyncSession, user_id: UUID) -> Device:
    """Any device of the user that is online, each in turn as chance has it; raises `Conflict` when none is."""
    device = await session.scalar(_online(user_id))
    if device is None:
        raise Conflict("none of your devices is online")
    return device


def _online(user_id: UUID) -> Select[Device]:
    is_held = select(Host.id).where(Host.id == Device.host_id, Host.ended_at.is_(None), Host.expires_at > func.now()).exists()
    return (
        select_owned(Device, user_id)
        .where(Device.deleted_at.is_(None), Device.is_active, Device.status == DeviceStatus.ONLINE, is_held)
        .order_by(func.random())
        .limit(1)
    )
