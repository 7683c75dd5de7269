"""Redis: what may be lost at any time. Every use goes on without it, after a second at most."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from siaran.settings import Settings

CONNECT_SECONDS = 1.0


def open_redis(settings: Settings) -> "Redis":
    """A client that gives up quickly: one new connection is tried, then its caller is told with a `RedisError`.

    Commands have no time-out of their own, because the client's may swallow a task's cancellation; bound them with
    `asyncio.timeout`. Raises `ValueError` when no address is set.
    """
    return Redis.from_url(
        settings.redis_dsn,
        decode_responses=True,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_timeout=None,
        retry=Retry(NoBackoff(), 1),
    )
