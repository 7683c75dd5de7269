"""A host's inbox: what contacts write to its devices is written down together, and lanes with an answer to send are woken."""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client

from siaran.chat_notices import ChatNotices
from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import History, Incoming
from siaran.incoming import take_in
from siaran.lanes import wake_lanes
from siaran.ledger.group_commit import GroupCommit
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks

log = structlog.get_logger()

INTERVAL_SECONDS = 0.1
RETRY_SECONDS = 1.0


class Inbox:
    """Takes in the messages of contacts; none is dropped while PostgreSQL is away.

    They are kept in chats where `chats` is to tell of it. `auto_reply` answers them for users who have set no text of their
    own, `webhook_defaults` hear of those to users without a webhook of their own.
    """

    def __init__(
        self,
        *,
        sessions: SessionMaker,
        client: Client,
        redis: Redis,
        clock: Clock,
        chats: ChatNotices | None = None,
        auto_reply: str = "",
        webhook_defaults: Sequence[str] = (),
    ) -> None:
        self._sessions = sessions
        self._client = client
        self._redis = redis
        self._clock = clock
        self._chats = chats
        self._auto_reply = auto_reply
        self._webhook_defaults = webhook_defaults
        self._messages = GroupCommit[Incoming | History, None](
            self._write, interval_seconds=INTERVAL_SECONDS, retry_seconds=RETRY_SECONDS
        )
        self._later: set[asyncio.Task[None]] = set()

    async def submit(self, message: Incoming | History) -> None:
        """Hand in a message, or a piece of history, and return once it is committed."""
        await self._messages.submit(message)

    async def close(self) -> None:
        """Write what has been handed in, then stop."""
        await self._messages.close()
        await asyncio.gather(*self._later)

    async def _write(self, messages: Sequence[Incoming | History]) -> Sequence[None]:
        async with self._sessions.begin() as session:
            now = self._clock()
            devices = await take_in(
                session,
                messages,
                now,
                store_chats=self._chats is not None,
                auto_reply=self._auto_reply,
                webhook_defaults=self._webhook_defaults,
            )
        nudge_webhooks(self._client, targets_told(session))
        # Temporal may be away: the messages that come next do not wait for it.
        if devices:
            self._do_later(self._wake(devices))
        if self._chats is not None:
            self._chats.tell(message.device_id for message in messages)
        return [None] * len(messages)

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _wake(self, devices: Collection[UUID]) -> None:
        try:
            await wake_lanes(self._sessions, self._client, self._redis, devices)
        except (SQLAlchemyError, OSError) as error:  # the sweep finds them
            log.warning("lanes_not_woken", error=type(error).__name__)
