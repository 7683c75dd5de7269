"""A host's intake: everything that its transport reports is written down, and only then forgotten by WhatsApp."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from uuid import UUID

from temporalio.client import Client

from siaran.chat_notices import ChatNotices
from siaran.db import SessionMaker
from siaran.gateway.interface import DeviceState, History, Incoming, Receipt, StateChanged, Transport
from siaran.ledger.group_commit import GroupCommit
from siaran.ledger.receipts import apply_receipts
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks
from worker.device_news import DeviceNews
from worker.inbox import Inbox


class Intake:
    """Follows the events of a transport; `noticed` hears of every change of a connection, `changed` who is on- or offline."""

    def __init__(
        self,
        *,
        transport: Transport,
        sessions: SessionMaker,
        client: Client,
        news: DeviceNews,
        inbox: Inbox,
        noticed: Callable[[StateChanged], None],
        changed: Callable[[UUID, bool], None],
        chats: ChatNotices | None = None,
    ) -> None:
        self._transport = transport
        self._sessions = sessions
        self._client = client
        self._news = news
        self._inbox = inbox
        self._noticed = noticed
        self._changed = changed
        self._chats = chats
        self._receipts = GroupCommit[Receipt, None](self._write_receipts, interval_seconds=0.1, retry_seconds=1)
        self._writing: set[asyncio.Task[None]] = set()
        self._held_back: list[StateChanged] | None = []

    def release(self) -> None:
        """Pass on who is on- or offline from now on: before, a device that is used might disturb others that connect."""
        held_back, self._held_back = self._held_back or [], None
        for event in held_back:
            self._pass_on(event)

    async def follow(self) -> None:
        """Take in what the transport reports until it is closed; nothing is waited for, so that no device holds up another."""
        async for event in self._transport.events():
            match event:
                case StateChanged():
                    if self._held_back is None:
                        self._pass_on(event)
                    else:
                        self._held_back.append(event)
                case Receipt():
                    self._later(self._take_in(event, self._receipts.submit(event)))
                case Incoming() | History():
                    self._later(self._take_in(event, self._inbox.submit(event)))

    async def close(self) -> None:
        """Write what is still to be written."""
        await asyncio.gather(*self._writing, return_exceptions=True)
        await asyncio.gather(self._receipts.close(), self._inbox.close())

    def _pass_on(self, event: StateChanged) -> None:
        self._noticed(event)
        self._changed(event.device_id, event.state is DeviceState.ONLINE)
        self._later(self._news.submit(event))

    async def _take_in(self, event: Receipt | Incoming | History, recorded: Coroutine[Any, Any, None]) -> None:
        """Have WhatsApp forget an event only once it is committed: this process may be killed before."""
        await recorded
        self._transport.handled(event)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_receipts(self, receipts: Sequence[Receipt]) -> Sequence[None]:
        async with self._sessions.begin() as session:
            await apply_receipts(session, receipts, store_chats=self._chats is not None)
        nudge_webhooks(self._client, targets_told(session))
        if self._chats is not None:
            self._chats.tell(receipt.device_id for receipt in receipts)
        return [None] * len(receipts)
