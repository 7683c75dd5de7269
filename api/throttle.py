"""How often someone may try to log in or register, counted in Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from siaran.errors import TooManyRequests

log = structlog.get_logger()

REDIS_PATIENCE_SECONDS = 5.0
"""Nobody waits longer for a count that may be lost at any time; short enough, and a busy machine would let guesses through."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` tries within `seconds` of the first one."""

    name: str
    most: int
    seconds: int

    def key(self, *who: str) -> str:
        """Where the tries of someone are counted; a hash, so that no address stands in Redis."""
        return f"siaran:throttle:{self.name}:{sha256('|'.join(who).encode()).hexdigest()[:32]}"


PAIR = Limit("login", 10, 900)
"""Wrong passwords for one email from one address."""

ADDRESS = Limit("login-address", 100, 900)
"""Wrong passwords from one address, for whatever emails; an office shares one."""

REGISTRATIONS = Limit("register", 100, 3600)
PASSWORD_RESETS = Limit("password-reset", 30, 3600)


def network_of(address: str) -> str:
    """What counts as one address: an IPv6 customer has 2**64 of them."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(parsed) if parsed.version == 4 else str(ip_network((parsed, 64), strict=False))


async def _take(redis: Redis, limits: dict[str, Limit]) -> None:
    """Count a try before it is made, so that a burst of them cannot slip past; without Redis everyone may try."""
    try:
        async with asyncio.timeout(REDIS_PATIENCE_SECONDS), redis.pipeline() as pipeline:
            for key, limit in limits.items():
                pipeline.incr(key)
                pipeline.expire(key, limit.seconds, nx=True)
                pipeline.ttl(key)
            replies = await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("throttle_unavailable", error=type(error).__name__)
        return
    for limit, count, seconds_left in zip(limits.values(), replies[::3], replies[2::3], strict=True):
        if count > limit.most:
            raise TooManyRequests(max(int(seconds_left), 1), "too many tries; wait before you try again")


async def _give_back(redis: Redis, forget: str, uncount: str) -> None:
    try:
        async with asyncio.timeout(REDIS_PATIENCE_SECONDS), redis.pipeline() as pipeline:
            pipeline.delete(forget)
            pipeline.decr(uncount)
            pipeline.expire(uncount, ADDRESS.seconds, nx=True)
            await pipeline.execute()
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("throttle_unavailable", error=type(error).__name__)


@asynccontextmanager
async def login_attempt(redis: Redis, email: str, address: str) -> AsyncIterator[None]:
    """Around the check of a password: raises `TooManyRequests`, and counts only checks that end in an error."""
    network = network_of(address)
    pair, alone = PAIR.key(email, network), ADDRESS.key(network)
    await _take(redis, {pair: PAIR, alone: ADDRESS})
    yield
    await _give_back(redis, forget=pair, uncount=alone)


async def count_try(redis: Redis, limit: Limit, address: str) -> None:
    """Count a try of something that costs us work; raises `TooManyRequests` beyond the limit."""
    await _take(redis, {limit.key(network_of(address)): limit})
