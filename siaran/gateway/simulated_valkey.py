"""The Valkey behind the simulated network: every command is sent at most once, and a failure says what is known of it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from siaran.errors import Unavailable
from siaran.gateway.simulated_scripts import Script

MAX_CONNECTIONS = 32
ANSWER_SECONDS = 10.0

_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "protocol": 2,
    "retry": Retry(NoBackoff(), 0),
    "socket_connect_timeout": ANSWER_SECONDS / 2,
    # With a time-out the library sends through asyncio.wait_for, which on Python 3.11 can swallow a cancellation.
    "socket_timeout": None,
}


class NotReached(Unavailable):
    """The simulated network cannot be reached; nothing was done."""


class NoAnswer(Unavailable):
    """The simulated network did not answer; what was asked may have been done."""


class NetworkValkey:
    """One pool of connections, without the client library's own retries, which would transmit a message twice."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=ANSWER_SECONDS,
            **_OPTIONS,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()

    def subscriber(self) -> Redis:
        """A client of its own for one subscription; the caller closes it."""
        return Redis.from_url(self._url, **_OPTIONS)

    async def command(self, *words: str | int) -> Any:
        """Send one command and wait for its reply; raises `NotReached` or `NoAnswer`."""
        try:
            return await self._exchange(words)
        except NoScriptError as error:
            raise NotReached("the server does not know the script") from error

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """Run a script, once; raises `NotReached` or `NoAnswer`."""
        words = (len(keys), *keys, *arguments)
        try:
            return await self._exchange(("EVALSHA", script.sha, *words))
        except NoScriptError:
            return await self.command("EVAL", script.text, *words)

    async def _exchange(self, words: Sequence[str | int]) -> Any:
        try:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # the library leaves it untyped
        except (RedisError, OSError) as error:
            raise NotReached(str(error)) from error
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await connection.send_command(*words)
                return await connection.read_response()
        except NoScriptError:
            raise
        except BusyLoadingError as error:
            raise NotReached(str(error)) from error
        except (RedisError, OSError) as error:
            raise NoAnswer(str(error)) from error
        finally:
            await self._pool.release(connection)
