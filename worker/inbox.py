"""A host's inbox: what contacts write to its devices is written down together, and lanes with an answer to send are woken."""

import asyncio
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client

from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import Incoming
from siaran.incoming import take_in
from siaran.lanes import wake_lanes
from siaran.ledger.group_commit import GroupCommit

log = structlog.get_logger()

INTERVAL_SECONDS = 0.1
RETRY_SECONDS = 1.0


class Inbox:
    """Takes in the messages of contacts; none is dropped while PostgreSQL is away."""

    def __init__(self, *, sessions: SessionMaker, client: Client, redis: Redis, clock: Clock) -> None:
        self._sessions = sessions
        self._client = client
        self._redis = redis
        self._clock = clock
        self._messages = GroupCommit[Incoming, None](
            self._write, interval_seconds=INTERVAL_SECONDS, retry_seconds=RETRY_SECONDS
        )
        self._waking: set[asyncio.Task[None]] = set()

    async def submit(self, message: Incoming) -> None:
        """Hand in a message and return once it is committed."""
        await self._messages.submit(message)

    async def close(self) -> None:
        """Write what has been handed in, then stop."""
        await self._messages.close()
        await asyncio.gather(*self._waking)

    async def _write(self, messages: Sequence[Incoming]) -> Sequence[None]:
        async with self._sessions.begin() as session:
            devices = await take_in(session, messages, self._clock())
        if devices:
            # Temporal may be away: the messages that come next do not wait for it.
            task = asyncio.create_task(self._wake(devices))
            self._waking.add(task)
            task.add_done_callback(self._waking.discard)
        return [None] * len(messages)

    async def _wake(self, devices: Iterable[UUID]) -> None:
        try:
            await wake_lanes(self._sessions, self._client, self._redis, devices)
        except (SQLAlchemyError, OSError) as error:  # the sweep finds them
            log.warning("lanes_not_woken", error=type(error).__name__)
