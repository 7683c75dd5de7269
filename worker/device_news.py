"""What becomes of a host's devices: written down together, and told to their lanes."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
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
from siaran.gateway.interface import DeviceState, NotConnected, StateChanged
from siaran.ledger.group_commit import GroupCommit
from siaran.models import DeviceStatus
from siaran.temporal import signal_moved
from siaran.webhook_events import targets_told
from siaran.webhook_news import announce_devices
from siaran.webhook_signals import nudge_webhooks

log = structlog.get_logger()

SIGNALS_AT_ONCE = 16
TELL_PAUSES_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
"""Before each try to tell a lane who has its device; hearing it twice does a lane no harm."""

SEEN_SECONDS = 60.0

STATUSES = {
    DeviceState.CONNECTING: DeviceStatus.CONNECTING,
    DeviceState.ONLINE: DeviceStatus.ONLINE,
    DeviceState.OFFLINE: DeviceStatus.OFFLINE,
    DeviceState.REPLACED: DeviceStatus.OFFLINE,
    DeviceState.LOGGED_OUT: DeviceStatus.LOGGED_OUT,
    DeviceState.BANNED: DeviceStatus.BANNED,
}
FOR_GOOD = frozenset({DeviceStatus.BANNED, DeviceStatus.LOGGED_OUT})
"""What gives a device's place at its host free."""

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
    FROM unnest(
        CAST(:devices AS uuid[]), CAST(:statuses AS text[]), CAST(:details AS text[]), CAST(:times AS timestamptz[]),
        CAST(:generations AS int[])
    ) AS r(device_id, status, detail, at, link_generation)
    WHERE d.id = r.device_id AND d.host_id = :host AND d.deleted_at IS NULL
        AND d.link_generation = coalesce(r.link_generation, d.link_generation)
    RETURNING d.id, d.user_id, old.status AS before, new.status AS after
""")

_AWAKE = text("SELECT device_id, user_id FROM lanes WHERE device_id = ANY(CAST(:devices AS uuid[])) AND state <> 'asleep'")

_SEEN = text("UPDATE user_devices SET last_seen = :now WHERE host_id = :host AND status = 'online'")


class DeviceNews:
    """Writes the states of one host's devices and tells open lanes who has their device.

    `settle` ends what somebody who is gone had claimed for a device that cannot connect.
    """

    def __init__(
        self,
        host_id: int,
        *,
        sessions: SessionMaker,
        client: Client,
        clock: Clock,
        settle: Callable[[UUID, UUID], Awaitable[None]],
    ) -> None:
        self._host_id = host_id
        self._sessions = sessions
        self._client = client
        self._clock = clock
        self._settle = settle
        self._told: set[UUID] = set()
        self._statuses = GroupCommit[StateChanged, None](self._write, interval_seconds=0.05, retry_seconds=1)
        self._under_way: set[asyncio.Task[None]] = set()
        self._is_ending = False

    async def submit(self, event: StateChanged) -> None:
        """Hand in a change and return once it is committed."""
        await self._statuses.submit(event)

    def forget(self, device_id: UUID) -> None:
        """Tell the lane of a device again when it comes back to this host."""
        self._told.discard(device_id)

    async def note_seen(self) -> None:
        """Refresh `last_seen` of the devices that are online, once a minute, for ever."""
        while True:
            await asyncio.sleep(SEEN_SECONDS)
            try:
                async with self._sessions.begin() as session:
                    await session.execute(_SEEN, {"host": self._host_id, "now": self._clock()})
            except (SQLAlchemyError, OSError) as error:
                log.warning("last_seen_not_written", error=type(error).__name__)

    async def end(self) -> None:
        """Settle and tell nothing more: the next host of the devices does."""
        self._is_ending = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def close(self) -> None:
        """Write what is still to be written."""
        await self._statuses.close()

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _write(self, events: Sequence[StateChanged]) -> Sequence[None]:
        last: dict[UUID, StateChanged] = {}
        for event in events:
            last[event.device_id] = _merged(last.get(event.device_id), event)
        devices = sorted(last)
        news = [device for device in devices if self._is_news(last[device])]
        async with self._sessions.begin() as session:
            result = await session.execute(
                _NOTE,
                {
                    "host": self._host_id,
                    "devices": devices,
                    "statuses": [STATUSES[last[device].state].value for device in devices],
                    "details": [last[device].detail for device in devices],
                    "times": [last[device].at for device in devices],
                    "generations": [last[device].link_generation for device in devices],
                },
            )
            noted = result.all()
            for row in noted:
                if row.after in FOR_GOOD and row.after != row.before:
                    note_device(session, row.user_id, row.id, row.after)
            await announce_devices(session, noted, {device: event.at for device, event in last.items()})
            awake = [(row.device_id, row.user_id) for row in await session.execute(_AWAKE, {"devices": news})]
        nudge_webhooks(self._client, targets_told(session))
        self._told.update(news)
        if self._is_ending:
            return [None] * len(events)
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
        await asyncio.gather(*(self._tell_lane(device, gate) for device in devices))

    async def _tell_lane(self, device_id: UUID, gate: asyncio.Semaphore) -> None:
        """Tell one lane, again for a while if Temporal is busy or away; after that the sweep finds it."""
        for pause_seconds in TELL_PAUSES_SECONDS:
            await asyncio.sleep(pause_seconds)
            try:
                async with gate:  # not while it pauses: others are not to wait for that
                    await signal_moved(self._client, device_id, self._host_id)
            except (RPCError, RuntimeError, OSError) as error:
                log.warning("lane_not_told", device=str(device_id), error=type(error).__name__)
            else:
                return


def _merged(before: StateChanged | None, event: StateChanged) -> StateChanged:
    """What is left of two changes that are written together: the later state, with the more telling reason."""
    if before is not None and (before.link_generation or 0) > (event.link_generation or before.link_generation or 0):
        return before
    if before is None or before.state is DeviceState.ONLINE or event.detail != NotConnected.code:
        return event
    return replace(event, detail=before.detail or event.detail)
