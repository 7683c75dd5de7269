"""Devices: finding, adding, changing and deleting them; every query names their owner."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_device
from siaran.errors import FieldError, Invalid
from siaran.models import Device, DeviceStatus, Lane, TransportKind
from siaran.pairings import cancel_pairing
from siaran.tenancy import get_owned, select_owned, update_owned
from siaran.unlinkings import want_unlinking
from siaran.warm_up import DAILY_STEP, FIRST_DAY, WarmUpChange
from siaran.webhook_news import announce_end_of_link

NAME_LENGTH = 100
MOST_MESSAGES = 1_000_000
"""The highest cap a device can be given, for a minute, an hour or a day: in effect none."""
LONGEST_DELAY_SECONDS = 86_400

CAPS = ("max_per_minute", "max_per_hour", "max_per_day")
DELAYS = ("min_delay_seconds", "max_delay_seconds")
WARM_UP = {"warm_up_first_day": "warm_up.first_day", "warm_up_daily_step": "warm_up.daily_step"}
"""Columns of a warm-up plan, with the fields of a request that name them."""


@dataclass(frozen=True, slots=True)
class DeviceChanges:
    """What to change of a device; `None` leaves a field as it is. Caps are messages, delays seconds."""

    name: str | None = None
    max_per_minute: int | None = None
    max_per_hour: int | None = None
    max_per_day: int | None = None
    min_delay_seconds: int | None = None
    max_delay_seconds: int | None = None
    warm_up: WarmUpChange | None = None


async def list_devices(
    session: AsyncSession,
    user_id: UUID,
    *,
    limit: int,
    after: tuple[datetime, UUID] | None = None,
    status: DeviceStatus | None = None,
) -> list[Device]:
    """A user's devices, oldest first, beginning behind (`created_at`, `id`)."""
    query = select_owned(Device, user_id).where(Device.deleted_at.is_(None)).order_by(Device.created_at, Device.id)
    if after is not None:
        query = query.where(tuple_(Device.created_at, Device.id) > tuple_(*after))
    if status is not None:
        query = query.where(Device.status == status)
    return list((await session.execute(query.limit(limit))).scalars())


def is_linked(device: Device) -> bool:
    """Whether a device has a link to an account; one that was removed on the phone keeps its `jid` but has none."""
    return device.jid is not None and device.status != DeviceStatus.LOGGED_OUT


async def get_device(session: AsyncSession, user_id: UUID, device_id: UUID, *, lock: bool = False) -> Device:
    """A user's device; raises `NotFound` for anyone else's and for a deleted one."""
    return await get_owned(session, Device, user_id, Device.id == device_id, Device.deleted_at.is_(None), lock=lock)


async def add_device(
    session: AsyncSession,
    user_id: UUID,
    changes: DeviceChanges,
    now: datetime,
    transport: TransportKind = TransportKind.SIMULATED,
) -> Device:
    """A new device together with its lane; raises `Invalid`."""
    device = Device(
        user_id=user_id,
        transport=transport,
        status=DeviceStatus.OFFLINE,
        phone="",
        min_delay_seconds=10,
        max_delay_seconds=30,
    )
    _apply(device, changes, now)
    session.add(device)
    await session.flush()
    session.add(Lane(device_id=device.id, user_id=user_id))
    note_device(session, user_id, device.id, "added")
    await session.flush()
    await session.refresh(device)
    return device


async def change_device(session: AsyncSession, user_id: UUID, device_id: UUID, changes: DeviceChanges, now: datetime) -> Device:
    """Change what `changes` names and nothing else; raises `NotFound` or `Invalid`."""
    device = await get_device(session, user_id, device_id, lock=True)
    _apply(device, changes, now)
    await session.flush()
    await session.refresh(device)
    return device


def _apply(device: Device, changes: DeviceChanges, now: datetime) -> None:
    if changes.name is not None:
        device.device_name = changes.name.strip()
    for field in (*CAPS, *DELAYS):
        if (value := getattr(changes, field)) is not None:
            setattr(device, field, value)
    if changes.warm_up is not None:
        _apply_warm_up(device, changes.warm_up, now)
    if errors := list(_problems(device)):
        raise Invalid(errors)


def _apply_warm_up(device: Device, change: WarmUpChange, now: datetime) -> None:
    """Days go on counting from where a plan under way began; a device that is not linked yet begins anew with its link."""
    if not change.on:
        device.warm_up_started_at = device.warm_up_first_day = device.warm_up_daily_step = None
        return
    device.warm_up_started_at = device.warm_up_started_at or now
    device.warm_up_first_day = _first_given(change.first_day, device.warm_up_first_day, FIRST_DAY)
    device.warm_up_daily_step = _first_given(change.daily_step, device.warm_up_daily_step, DAILY_STEP)


def _first_given(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


def _problems(device: Device) -> Iterator[FieldError]:
    if not device.device_name or len(device.device_name) > NAME_LENGTH:
        yield FieldError("name", f"must have 1 to {NAME_LENGTH} characters")
    elif not device.device_name.isprintable():
        yield FieldError("name", "must not contain control characters")
    for field in CAPS:
        # Unset caps get the column's default.
        if (value := getattr(device, field)) is not None and not 1 <= value <= MOST_MESSAGES:
            yield FieldError(field, f"must be 1 to {MOST_MESSAGES}")
    for column, field in WARM_UP.items():
        if (value := getattr(device, column)) is not None and not 1 <= value <= MOST_MESSAGES:
            yield FieldError(field, f"must be 1 to {MOST_MESSAGES}")
    for field in DELAYS:
        if not 0 <= getattr(device, field) <= LONGEST_DELAY_SECONDS:
            yield FieldError(field, f"must be 0 to {LONGEST_DELAY_SECONDS}")
    if device.min_delay_seconds > device.max_delay_seconds:
        yield FieldError("min_delay_seconds", "must not be larger than max_delay_seconds")


async def delete_device(
    session: AsyncSession, user_id: UUID, device_id: UUID, now: datetime, failover_after: timedelta
) -> Device:
    """Take a device out of use for good; its row, messages and reports stay.

    It counts as having been away for long enough already, so its lane moves what is pending to the owner's other devices.
    """
    device = await get_device(session, user_id, device_id, lock=True)
    await cancel_pairing(session, user_id, device_id, now)
    await want_unlinking(session, device)
    if device.jid is not None:
        await announce_end_of_link(session, device, device.status, now)
    device.deleted_at = now
    note_device(session, user_id, device.id, "removed")
    device.is_active = False
    device.status = DeviceStatus.LOGGED_OUT
    device.jid = None
    device.host_id = None
    device.offline_since_at = now - failover_after
    # A stopped lane would keep its messages, and nobody could resume it any more.
    await session.execute(update_owned(Lane, user_id).where(Lane.device_id == device_id).values(paused_at=None))
    await session.flush()
    await session.refresh(device)
    return device
