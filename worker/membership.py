"""A host's devices where none may be connected while it serves: read once, connected one after another, renewed as a whole.

The WhatsApp library reads and writes its table of clients without a lock: connecting one while others are used can end the
process. So whatever needs a new connection needs a new process, and this decides when that is worth it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError

from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.gateway.interface import (
    Banned,
    DeviceRef,
    DeviceState,
    LoggedOut,
    NotConnected,
    StateChanged,
    Transport,
    TransportError,
)
from siaran.unlinkings import close_unlinking, open_unlinking
from worker.connections import MINE
from worker.device_news import DeviceNews
from worker.renewal import Renewal

log = structlog.get_logger()

RECONCILE_SECONDS = 1.0

WAIT_SECONDS = 10.0
"""How long the host waits for one device, while it has patience."""

PATIENCE_SECONDS = 30.0
"""How long it waits for all of those together that do not connect."""

LEAST_WAIT_SECONDS = 2.0

DEAD = frozenset({DeviceState.LOGGED_OUT, DeviceState.BANNED})
"""Connections that are over for good; their devices are let go of, without a renewal."""

FIRST_PAUSE = timedelta(seconds=15)
OVER_PAUSE = timedelta(minutes=1)
"""How long after a connection has ended that does not come back by itself: another client may have replaced it."""

BRIEF = timedelta(minutes=10)
"""A connection that was over sooner than this would be over soon again: as long a pause keeps it from disturbing the others."""

DROPPED_PAUSE = timedelta(minutes=5)
"""How long the transport may try by itself to bring back a device that was online, or to hear from one that is frozen."""

LONGEST_PAUSE = timedelta(minutes=30)
LONGEST_PAUSE_ALONE = timedelta(minutes=5)
"""The same while no device of the host is online, so that a renewal disturbs nobody."""

ASKED_PAUSE = timedelta(seconds=60)
"""How old a host with devices online is at least before it is renewed because somebody asks for another device."""

FROZEN = "frozen"
FINISH_SECONDS = 10.0
LOG_OUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Away:
    """A device without a connection: `tried_at` is when connecting it was tried in vain, None if it was online since.

    `is_over` says that the transport does not bring it back by itself, `was_brief` that this came soon after the host began.
    """

    state: DeviceState
    since_at: datetime
    tried_at: datetime | None
    is_over: bool
    was_brief: bool = False

    def due_at(self, offline_since_at: datetime, longest: timedelta) -> datetime:
        """When a new process is worth a try: after as long as the device had been away at the last one, within limits.

        So the pauses double, and nothing but the device's own row has to outlive the process.
        """
        if self.tried_at is None:
            over_pause = BRIEF if self.was_brief else OVER_PAUSE
            return self.since_at + (over_pause if self.is_over else DROPPED_PAUSE)
        return self.tried_at + min(max(self.tried_at - offline_since_at, FIRST_PAUSE), longest)


class Membership:
    """The fixed devices of one host; `renewal` is asked for where another set, or another connection, is needed.

    `changed` is told of every device that went on- or offline, `lost` of those that are not this host's any more; `finish`
    returns when nothing of a device is under way.
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
        finish: Callable[[UUID], Awaitable[None]],
        renewal: Renewal,
    ) -> None:
        self._host_id = host_id
        self._transport = transport
        self._sessions = sessions
        self._news = news
        self._clock = clock
        self._changed = changed
        self._lost = lost
        self._finish = finish
        self._renewal = renewal
        self._members: dict[UUID, DeviceRef] = {}
        self._away: dict[UUID, Away] = {}
        self._suspected: frozenset[DeviceRef] = frozenset()
        self._frozen: set[UUID] = set()
        self._unlinking: dict[UUID, asyncio.Task[None]] = {}
        self._is_idle = False
        self._began_at = clock()

    async def begin(self) -> None:
        """Connect the devices one after another; those that do not come in time are left behind for now."""
        rows = await self._read_patiently()
        self._members = {row.id: DeviceRef(row.id, row.jid, row.link_generation) for row in rows}
        loop, patience = asyncio.get_running_loop(), PATIENCE_SECONDS
        for ref in list(self._members.values()):
            began = loop.time()
            event = await self._connect(ref, max(min(WAIT_SECONDS, patience), LEAST_WAIT_SECONDS))
            if event is not None:
                patience -= loop.time() - began
                self._note_away(event, self._clock())
                await self._news.submit(event)
                self._let_go_of_dead([ref.id])
        # Only now: a lane that hears of its device at once would find no queue yet.
        online = [device for device in self._members if self._transport.state(device) is DeviceState.ONLINE]
        now = self._clock()
        await asyncio.gather(*(self._news.submit(StateChanged(device, DeviceState.ONLINE, now)) for device in online))
        for device in online:
            self._changed(device, True)
        log.info("devices_connected", host=self._host_id, devices=len(rows), online=len(online))

    async def follow(self) -> None:
        """Look for ever whether the rows or the connections call for another process."""
        while True:
            await asyncio.sleep(RECONCILE_SECONDS)
            self._let_go_of_dead(list(self._members))
            await self._look_for_frozen()
            try:
                rows = await self._read()
            except (SQLAlchemyError, OSError) as error:
                log.warning("devices_not_read", host=self._host_id, error=type(error).__name__)
                continue
            await self._compare({DeviceRef(row.id, row.jid, row.link_generation) for row in rows})
            self._look_for_retries({row.id: row for row in rows})

    async def close(self) -> None:
        """End what is under way for devices that are leaving; what is not done is done by others."""
        for task in self._unlinking.values():
            task.cancel()
        await asyncio.gather(*self._unlinking.values(), return_exceptions=True)

    def noticed(self, event: StateChanged) -> None:
        """Note since when a device is away, or that it is back."""
        if event.state in {DeviceState.ONLINE, DeviceState.CONNECTING}:
            if event.state is DeviceState.ONLINE:
                self._away.pop(event.device_id, None)
                # Its connection may be alive while a send still hangs: then the next look finds it frozen again.
                self._frozen.discard(event.device_id)
            return
        before = self._away.get(event.device_id)
        if before is None or before.state is not event.state:
            self._note_away(event, before.tried_at if before is not None else None)

    def _note_away(self, event: StateChanged, tried_at: datetime | None) -> None:
        is_over = self._transport.is_over(event.device_id)
        was_brief = event.at - self._began_at < BRIEF
        self._away[event.device_id] = Away(event.state, event.at, tried_at, is_over, was_brief)

    # Connecting

    async def _connect(self, ref: DeviceRef, seconds: float) -> StateChanged | None:
        """Connect a device; what is to be noted of it if it is not online in time, which a late success then overtakes."""
        task = asyncio.create_task(self._transport.connect(ref), name=f"connect-{ref.id}")
        done, _ = await asyncio.wait({task}, timeout=seconds)
        if not done:  # what it has begun goes on, and may bring the device online later
            task.cancel()
            await asyncio.wait({task})
        error = NotConnected() if task.cancelled() else task.exception()
        match error:
            case None:
                return None
            case LoggedOut():
                state = DeviceState.LOGGED_OUT
            case Banned():
                state = DeviceState.BANNED
            case _:
                state = DeviceState.OFFLINE
        code = error.code if isinstance(error, TransportError) else type(error).__name__
        log.warning("device_not_connected", device=str(ref.id), error=code, in_time=bool(done))
        return StateChanged(ref.id, state, self._clock(), code)

    # Membership

    def _let_go_of_dead(self, devices: Collection[UUID]) -> None:
        """Forget devices whose connections are over for good; their rows let go of this host by themselves."""
        for device in devices:
            away = self._away.get(device)
            if device in self._members and away is not None and away.state in DEAD:
                self._drop(device)

    def _drop(self, device_id: UUID) -> None:
        self._members.pop(device_id, None)
        self._away.pop(device_id, None)
        self._news.forget(device_id)
        self._changed(device_id, False)
        self._lost(device_id)

    async def _compare(self, mine: set[DeviceRef]) -> None:
        """Ask for a renewal when the rows name other devices, unless they are only about to be written."""
        members = {ref for ref in self._members.values() if ref.id not in self._unlinking}
        for ref in members - mine:
            if await self._unlink(ref):
                members.discard(ref)
        # A difference that is seen twice is no write of our own under way.
        differing = frozenset(members ^ mine)
        if differing & self._suspected:
            self._renewal.ask("membership")
        if not self._members and not mine and self._is_idle:
            self._renewal.ask("no devices")
        self._suspected, self._is_idle = differing, not self._members and not mine

    async def _unlink(self, ref: DeviceRef) -> bool:
        """Log a device out whose owner has ended its link; False where its row went for another reason."""
        try:
            async with self._sessions.begin() as session:
                unlinking = await open_unlinking(session, ref.id, ref.link_generation)
        except (SQLAlchemyError, OSError):
            return False
        if unlinking is None:
            return False
        self._changed(ref.id, False)
        self._lost(ref.id)
        self._unlinking[ref.id] = asyncio.create_task(self._log_out(ref, unlinking), name=f"unlink-{ref.id}")
        return True

    async def _log_out(self, ref: DeviceRef, unlinking: int) -> None:
        """End a link on WhatsApp's side; where that fails, a process of its own does it as soon as this one lets go."""
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._finish(ref.id)
        except TimeoutError:
            log.info("unlinked_during_a_send", device=str(ref.id))
        try:
            async with asyncio.timeout(LOG_OUT_SECONDS):
                await self._transport.log_out(ref.id)
            async with self._sessions.begin() as session:
                await close_unlinking(session, unlinking)
        except (TransportError, SQLAlchemyError, OSError) as error:
            log.warning("device_not_logged_out", device=str(ref.id), error=type(error).__name__)
            self._renewal.ask("unlinking")
        self._drop(ref.id)
        self._unlinking.pop(ref.id, None)

    # Trying again

    def _look_for_retries(self, rows: Mapping[UUID, Row[Any]]) -> None:
        """Ask for a renewal when a device without a connection has waited long enough, or somebody asks for it."""
        now = self._clock()
        anyone_online = any(self._transport.state(device) is DeviceState.ONLINE for device in self._members)
        longest = LONGEST_PAUSE if anyone_online else LONGEST_PAUSE_ALONE
        for device, away in self._away.items():
            row, state = rows.get(device), self._transport.state(device)
            if row is None or device not in self._members or (state is DeviceState.ONLINE and device not in self._frozen):
                continue
            is_calm = not anyone_online or now - self._began_at >= ASKED_PAUSE
            if row.is_asked_for and is_calm and state is not DeviceState.CONNECTING:
                self._renewal.ask("asked for")
            elif away.due_at(row.offline_since_at or away.since_at, longest) <= now:
                self._renewal.ask("reconnect")

    async def _look_for_frozen(self) -> None:
        """Show devices as offline whose connections look alive and answer nothing, before all of their sends hang."""
        for device in list(self._members):
            is_frozen = self._transport.frozen_since(device) is not None
            if self._transport.state(device) is not DeviceState.ONLINE or is_frozen is (device in self._frozen):
                continue
            state, detail = (DeviceState.OFFLINE, FROZEN) if is_frozen else (DeviceState.ONLINE, "")
            (self._frozen.add if is_frozen else self._frozen.discard)(device)
            event = StateChanged(device, state, self._clock(), detail)
            self.noticed(event)
            self._changed(device, not is_frozen)
            await self._news.submit(event)

    async def _read(self) -> list[Row[Any]]:
        async with self._sessions() as session:
            return list(await session.execute(MINE, {"host": self._host_id}))

    async def _read_patiently(self) -> list[Row[Any]]:
        while True:
            try:
                return await self._read()
            except (SQLAlchemyError, OSError) as error:
                log.warning("devices_not_read", host=self._host_id, error=type(error).__name__)
                await asyncio.sleep(RECONCILE_SECONDS)
