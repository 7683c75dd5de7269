"""A host's connections where devices come and go while it serves: connects those it is given, lets go of the others."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import DeviceRef, DeviceState, StateChanged, Transport, TransportError
from worker.device_news import DeviceNews

log = structlog.get_logger()

RECONCILE_SECONDS = 2.0
CONNECT_AT_ONCE = 32
RETRY_AFTER = timedelta(seconds=2)
RETRY_LIMIT = timedelta(seconds=60)

MINE = text("""
    SELECT id, user_id, jid, link_generation, status = 'connecting' AS is_asked_for, offline_since_at FROM user_devices
    WHERE host_id = :host AND jid IS NOT NULL AND is_active AND deleted_at IS NULL
    ORDER BY user_id, id
""")


@dataclass(slots=True)
class _Attempts:
    """How often connecting a device has failed in a row, and when to try again."""

    failures: int
    next_at: datetime


class Connections:
    """Keeps the devices of one host connected; `changed` is told of every device that went on- or offline, `lost` of those
    that are not this host's any more.
    """

    def __init__(
        self,
        host_id: int,
        *,
        transport: Transport,
        sessions: SessionMaker,
        news: DeviceNews,
        clock: Clock,
        changed: Callable[[UUID, bool], None],
        lost: Callable[[UUID], None],
    ) -> None:
        self._host_id = host_id
        self._transport = transport
        self._sessions = sessions
        self._news = news
        self._clock = clock
        self._changed = changed
        self._lost = lost
        self._known: dict[UUID, DeviceRef] = {}
        self._attempts: dict[UUID, _Attempts] = {}
        self._connecting: dict[UUID, asyncio.Task[None]] = {}
        self._gate = asyncio.Semaphore(CONNECT_AT_ONCE)
        self._is_closing = False

    async def begin(self) -> None:
        """Nothing has to be there before the host serves."""

    async def follow(self) -> None:
        """Follow the rows until closed: connect the devices that are this host's, let go of the others."""
        while not self._is_closing:
            try:
                await self._follow_rows()
            except (SQLAlchemyError, OSError) as error:
                log.warning("devices_not_read", host=self._host_id, error=type(error).__name__)
            await asyncio.sleep(RECONCILE_SECONDS)

    async def close(self) -> None:
        """Connect nothing more."""
        self._is_closing = True
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)

    def noticed(self, event: StateChanged) -> None:
        """A device that is online has failed for the last time."""
        if event.state is DeviceState.ONLINE:
            self._attempts.pop(event.device_id, None)

    async def _follow_rows(self) -> None:
        async with self._sessions() as session:
            rows = (await session.execute(MINE, {"host": self._host_id})).all()
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
        self._news.forget(device_id)
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
                await self._news.submit(StateChanged(ref.id, state, self._clock(), error.code, ref.link_generation))
                return
        self._attempts.pop(ref.id, None)
        await self._news.submit(StateChanged(ref.id, DeviceState.ONLINE, self._clock(), "", ref.link_generation))
        self._changed(ref.id, True)

    def _postpone(self, device_id: UUID) -> None:
        failures = self._attempts[device_id].failures + 1 if device_id in self._attempts else 1
        delay = min(RETRY_AFTER * 2 ** min(failures - 1, 6), RETRY_LIMIT)
        self._attempts[device_id] = _Attempts(failures, self._clock() + delay)
