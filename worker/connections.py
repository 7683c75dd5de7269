"""A host's connections: connects the devices it is given, and writes down what becomes of them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from siaran.activity_log import note_device
from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import (
    DeviceRef,
    DeviceState,
    Incoming,
    NotConnected,
    Receipt,
    StateChanged,
    Transport,
    TransportError,
)
from siaran.ledger.group_commit import GroupCommit
from siaran.ledger.receipts import apply_receipts
from siaran.models import DeviceStatus
from siaran.temporal import signal_moved
from worker.inbox import Inbox

log = structlog.get_logger()

RECONCILE_SECONDS = 2.0
CONNECT_AT_ONCE = 32
SIGNALS_AT_ONCE = 16
RETRY_AFTER = timedelta(seconds=2)
RETRY_LIMIT = timedelta(seconds=60)

_STATUSES = {
    DeviceState.CONNECTING: DeviceStatus.CONNECTING,
    DeviceState.ONLINE: DeviceStatus.ONLINE,
    DeviceState.OFFLINE: DeviceStatus.OFFLINE,
    DeviceState.REPLACED: DeviceStatus.OFFLINE,
    DeviceState.LOGGED_OUT: DeviceStatus.LOGGED_OUT,
    DeviceState.BANNED: DeviceStatus.BANNED,
}

_MINE = text("""
    SELECT id, jid, link_generation, status = 'connecting' AS is_asked_for FROM user_devices
    WHERE host_id = :host AND jid IS NOT NULL AND is_active AND deleted_at IS NULL
""")

# A device that is gone for good gives its place at the host free. That it could not be connected again says less than why it
# went, which stays as long as it is away.
_NOTE = text("""
    UPDATE user_devices d SET
        status = r.status,
        offline_since_at = CASE WHEN r.status = 'online' THEN NULL ELSE coalesce(d.offline_since_at, r.at) END,
        last_seen = CASE WHEN r.status = 'online' THEN r.at ELSE d.last_seen END,
        last_error = CASE
            WHEN r.status = 'online' THEN d.last_error
            WHEN r.detail = 'not_connected' AND d.last_error_at >= d.offline_since_at THEN coalesce(d.last_error, r.detail)
            ELSE coalesce(nullif(r.detail, ''), r.status)
        END,
        last_error_at = CASE
            WHEN r.status = 'online' THEN d.last_error_at
            WHEN r.detail = 'not_connected' AND d.last_error_at >= d.offline_since_at THEN d.last_error_at
            ELSE r.at
        END,
        host_id = CASE WHEN r.status IN ('banned', 'logged_out') THEN NULL ELSE d.host_id END,
        updated_at = r.at
    FROM unnest(CAST(:devices AS uuid[]), CAST(:statuses AS text[]), CAST(:details AS text[]), CAST(:times AS timestamptz[]))
        AS r(device_id, status, detail, at)
    WHERE d.id = r.device_id AND d.host_id = :host AND d.deleted_at IS NULL
    RETURNING d.id, d.user_id, old.status AS before, new.status AS after
""")

_AWAKE = text("SELECT device_id, user_id FROM lanes WHERE device_id = ANY(CAST(:devices AS uuid[])) AND state <> 'asleep'")

_SEEN = text("UPDATE user_devices SET last_seen = :now WHERE host_id = :host AND status = 'online'")


@dataclass(slots=True)
class _Attempts:
    """How often connecting a device has failed in a row, and when to try again."""

    failures: int
    next_at: datetime


class Connections:
    """Keeps the devices of one host connected; `changed` is told of every device that went on- or offline, `lost` of those
    that are not this host's any more. `settle` ends what somebody who is gone had claimed for a device that cannot connect.
    """

    def __init__(
        self,
        host_id: int,
        *,
        transport: Transport,
        sessions: SessionMaker,
        client: Client,
        clock: Clock,
        changed: Callable[[UUID, bool], None],
        lost: Callable[[UUID], None],
        settle: Callable[[UUID, UUID], Awaitable[None]],
        inbox: Inbox,
    ) -> None:
        self._host_id = host_id
        self._transport = transport
        self._sessions = sessions
        self._client = client
        self._clock = clock
        self._changed = changed
        self._lost = lost
        self._settle = settle
        self._inbox = inbox
        self._known: dict[UUID, DeviceRef] = {}
        self._attempts: dict[UUID, _Attempts] = {}
        self._connecting: dict[UUID, asyncio.Task[None]] = {}
        self._told: set[UUID] = set()
        self._gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        self._statuses = GroupCommit[StateChanged, None](self._write_statuses, interval_seconds=0.05, retry_seconds=1)
        self._receipts = GroupCommit[Receipt, None](self._write_receipts, interval_seconds=0.1, retry_seconds=1)
        self._writing: set[asyncio.Task[None]] = set()

    async def reconcile(self) -> None:
        """Follow the rows for ever: connect the devices that are this host's, let go of the others."""
        while True:
            try:
                await self._follow_rows()
            except (SQLAlchemyError, OSError) as error:
                log.warning("devices_not_read", host=self._host_id, error=type(error).__name__)
            await asyncio.sleep(RECONCILE_SECONDS)

    async def _follow_rows(self) -> None:
        async with self._sessions() as session:
            rows = (await session.execute(_MINE, {"host": self._host_id})).all()
        mine = {row.id: DeviceRef(row.id, row.jid, row.link_generation) for row in rows}
        asked_for = {row.id for row in rows if row.is_asked_for}
        for device_id in self._known.keys() - mine.keys():
            await self._let_go(device_id)
            self._lost(device_id)
        now = self._clock()
        for device_id, ref in mine.items():
            if self._known.get(device_id) not in {None, ref}:
                await self._let_go(device_id)
            self._known[device_id] = ref
            if device_id in asked_for:  # a failed attempt shows as offline: somebody wants another without waiting
                self._attempts.pop(device_id, None)
            tried = self._attempts.get(device_id)
            is_down = self._transport.state(device_id) not in {DeviceState.ONLINE, DeviceState.CONNECTING}
            if is_down and device_id not in self._connecting and (tried is None or tried.next_at <= now):
                task = asyncio.create_task(self._connect(ref), name=f"connect-{device_id}")
                self._connecting[device_id] = task
                task.add_done_callback(partial(self._connected, device_id))

    def _connected(self, device_id: UUID, task: asyncio.Task[None]) -> None:
        self._connecting.pop(device_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("connect_failed", device=str(device_id), error=type(error).__name__)
            self._postpone(device_id)

    async def _let_go(self, device_id: UUID) -> None:
        self._known.pop(device_id, None)
        self._told.discard(device_id)
        self._attempts.pop(device_id, None)
        self._changed(device_id, False)
        await self._transport.disconnect(device_id)

    async def _connect(self, ref: DeviceRef) -> None:
        async with self._gate:
            try:
                await self._transport.connect(ref)
            except TransportError as error:
                state = self._transport.state(ref.id)
                if state in {DeviceState.ONLINE, DeviceState.CONNECTING}:
                    state = DeviceState.OFFLINE
                self._postpone(ref.id)
                await self._statuses.submit(StateChanged(ref.id, state, self._clock(), error.code))
                return
        self._attempts.pop(ref.id, None)
        await self._statuses.submit(StateChanged(ref.id, DeviceState.ONLINE, self._clock()))
        self._changed(ref.id, True)

    def _postpone(self, device_id: UUID) -> None:
        failures = self._attempts[device_id].failures + 1 if device_id in self._attempts else 1
        delay = min(RETRY_AFTER * 2 ** min(failures - 1, 6), RETRY_LIMIT)
        self._attempts[device_id] = _Attempts(failures, self._clock() + delay)

    async def follow_events(self) -> None:
        """Take in what the transport reports, for ever; nothing is waited for, so that no device holds up another."""
        async for event in self._transport.events():
            match event:
                case StateChanged():
                    if event.state is DeviceState.ONLINE:
                        self._attempts.pop(event.device_id, None)
                    self._changed(event.device_id, event.state is DeviceState.ONLINE)
                    self._later(self._statuses.submit(event))
                case Receipt():
                    self._later(self._take_in(event, self._receipts.submit(event)))
                case Incoming():
                    self._later(self._take_in(event, self._inbox.submit(event)))

    async def _take_in(self, event: Receipt | Incoming, recorded: Coroutine[Any, Any, None]) -> None:
        """Have WhatsApp forget an event only once it is committed: this process may be killed before."""
        await recorded
        self._transport.handled(event)

    async def note_seen(self) -> None:
        """Refresh `last_seen` of the devices that are online, once a minute, for ever."""
        while True:
            await asyncio.sleep(60)
            try:
                async with self._sessions.begin() as session:
                    await session.execute(_SEEN, {"host": self._host_id, "now": self._clock()})
            except (SQLAlchemyError, OSError) as error:
                log.warning("last_seen_not_written", error=type(error).__name__)

    async def close(self) -> None:
        """Write what is still to be written."""
        await asyncio.gather(self._statuses.close(), self._receipts.close(), self._inbox.close())

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write_receipts(self, receipts: Sequence[Receipt]) -> Sequence[None]:
        async with self._sessions.begin() as session:
            await apply_receipts(session, receipts)
        return [None] * len(receipts)

    async def _write_statuses(self, events: Sequence[StateChanged]) -> Sequence[None]:
        last: dict[UUID, StateChanged] = {}
        for event in events:
            last[event.device_id] = _merged(last.get(event.device_id), event)
        devices = sorted(last)
        news = [device for device in devices if self._is_news(last[device])]
        async with self._sessions.begin() as session:
            noted = await session.execute(
                _NOTE,
                {
                    "host": self._host_id,
                    "devices": devices,
                    "statuses": [_STATUSES[last[device].state].value for device in devices],
                    "details": [last[device].detail for device in devices],
                    "times": [last[device].at for device in devices],
                },
            )
            for row in noted:
                if row.after in {DeviceStatus.BANNED, DeviceStatus.LOGGED_OUT} and row.after != row.before:
                    note_device(session, row.user_id, row.id, row.after)
            awake = [(row.device_id, row.user_id) for row in await session.execute(_AWAKE, {"devices": news})]
        self._told.update(news)
        self._later(self._tell_lanes([device for device, _ in awake]))
        for device, user in awake:
            if last[device].state is not DeviceState.ONLINE:
                self._later(self._settle_and_tell(device, user))
        return [None] * len(events)

    def _is_news(self, event: StateChanged) -> bool:
        """Whether a lane has to hear of it: its device is here, or this host has it now and cannot connect it."""
        if event.state is DeviceState.CONNECTING:
            return False
        return event.state is DeviceState.ONLINE or event.device_id not in self._told

    async def _settle_and_tell(self, device_id: UUID, user_id: UUID) -> None:
        """The host before may have died with a message under way; its campaign need not wait until the device is back."""
        await self._settle(device_id, user_id)
        await self._tell_lanes([device_id])

    async def _tell_lanes(self, devices: Sequence[UUID]) -> None:
        """Tell open lanes who has their device: a send that waits for an old host, perhaps a dead one, is given up at once."""
        gate = asyncio.Semaphore(SIGNALS_AT_ONCE)

        async def tell(device_id: UUID) -> None:
            async with gate:
                try:
                    await signal_moved(self._client, device_id, self._host_id)
                except (RPCError, RuntimeError, OSError) as error:
                    log.warning("lane_not_told", device=str(device_id), error=type(error).__name__)

        await asyncio.gather(*(tell(device) for device in devices))


def _merged(before: StateChanged | None, event: StateChanged) -> StateChanged:
    """What is left of two changes that are written together: the later state, with the more telling reason."""
    if before is None or before.state is DeviceState.ONLINE or event.detail != NotConnected.code:
        return event
    return replace(event, detail=before.detail or event.detail)
