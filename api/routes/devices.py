"""Devices: list, add, change, delete, and try out what can happen to one."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from api.auth import UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.network import NetworkDep, open_network
from api.paging import PagingDep
from siaran import devices
from siaran.devices import DeviceChanges
from siaran.errors import Conflict, Invalid, Unavailable
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.lanes import wake_lanes
from siaran.linking import end_link
from siaran.models import Device, DeviceStatus, TransportKind
from siaran.user_settings import waiting_lanes
from siaran.warm_up import DAILY_STEP, FIRST_DAY, WarmUpChange, daily_cap, ends_at
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks

log = structlog.get_logger()
router = APIRouter(tags=["devices"])


class WarmUpOptions(BaseModel):
    """A warm-up plan: the daily cap begins low and rises by a step every 24 hours, up to `max_per_day`."""

    on: bool = Field(True, description="`true` starts a plan, or changes the one under way; `false` stops it.")
    first_day: int | None = Field(
        None, description=f"Messages in the first 24 hours; a new plan has {FIRST_DAY} unless told otherwise."
    )
    daily_step: int | None = Field(
        None, description=f"How many more in each 24 hours after; a new plan has {DAILY_STEP} unless told otherwise."
    )


class WarmUpView(BaseModel):
    """A device's warm-up plan."""

    started_at: datetime = Field(description="From when its days count; a newly linked account begins with its link.")
    first_day: int = Field(description="Messages in the first 24 hours.")
    daily_step: int = Field(description="How many more in each 24 hours after.")
    cap_today: int = Field(description="How many messages it may send within 24 hours at this moment.")
    ends_at: datetime = Field(description="From when on only `max_per_day` holds.")

    @classmethod
    def of(cls, device: Device, now: datetime) -> "WarmUpView | None":
        """The plan of a device, if it has one."""
        started_at, first_day, daily_step = device.warm_up_started_at, device.warm_up_first_day, device.warm_up_daily_step
        if started_at is None or first_day is None or daily_step is None:
            return None
        return cls(
            started_at=started_at,
            first_day=first_day,
            daily_step=daily_step,
            cap_today=daily_cap(device.max_per_day, started_at, first_day, daily_step, now),
            ends_at=ends_at(device.max_per_day, started_at, first_day, daily_step),
        )


class DeviceCaps(BaseModel):
    """How fast a device may send; what is left out, or `null`, stays as it is."""

    max_per_minute: int | None = Field(None, description="Messages a minute at most; a new device has 20.")
    max_per_hour: int | None = Field(None, description="Messages an hour at most; a new device has 500.")
    max_per_day: int | None = Field(None, description="Messages a day at most; a new device has 5,000.")
    min_delay_seconds: int | None = Field(None, description="Shortest gap after a one-off message; a new device has 10.")
    max_delay_seconds: int | None = Field(None, description="Longest gap after a one-off message; a new device has 30.")
    warm_up: WarmUpOptions | None = Field(
        None, description="Protects a new account by a daily cap that rises day by day; `{}` starts the usual plan."
    )


class NewDevice(DeviceCaps):
    """A device to add."""

    name: str = Field(description="What the user calls it.", examples=["Front desk"])
    transport: TransportKind | None = Field(
        None,
        description="`whatsapp` for a real account, `simulated` for one of the simulated network. Left out, it is `simulated` "
        "where this deployment has a simulated network, else `whatsapp`.",
    )


class DeviceEdit(DeviceCaps):
    """What to change of a device; what is left out, or `null`, stays as it is."""

    name: str | None = Field(None, description="What the user calls it.")


class DeviceView(BaseModel):
    """A device."""

    id: UUID
    name: str = Field(validation_alias="device_name")
    phone: str = Field(description="Number of the account it is, or was last, linked to; empty before the first link.")
    jid: str | None = Field(description="WhatsApp's id of the link; `null` while it is not linked.")
    status: DeviceStatus
    last_seen: datetime | None = Field(serialization_alias="lastSeen", description="When it was last online.")
    transport: TransportKind
    max_per_minute: int
    max_per_hour: int
    max_per_day: int
    min_delay_seconds: int
    max_delay_seconds: int
    warm_up: WarmUpView | None = Field(None, description="Its warm-up plan; `null` without one.")
    is_active: bool
    restricted_until_at: datetime | None = Field(description="Until when WhatsApp lets it open no new chats.")
    last_error: str | None
    last_error_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, device: Device, now: datetime) -> "DeviceView":
        """A device's row as its owner sees it."""
        view = cls.model_validate(device, from_attributes=True)
        hidden = {} if devices.is_linked(device) else {"jid": None}
        return view.model_copy(update={"warm_up": WarmUpView.of(device, now), **hidden})


class DeviceBox(BaseModel):
    """One device, where the original puts it into a box."""

    device: DeviceView


class SimulatedEvent(StrEnum):
    """What can be made to happen to a simulated device."""

    DROP = "drop"
    RESTORE = "restore"
    BAN = "ban"
    LOG_OUT = "log_out"
    RESTRICT = "restrict"


class Simulation(BaseModel):
    """What to make happen."""

    action: SimulatedEvent = Field(
        description="`drop` its connection, `ban` its account, `restore` it after either, `log_out` as if on the phone, or "
        "`restrict` it to chats that exist (error 463)."
    )
    seconds: float | None = Field(
        None, gt=0, le=31_536_000, description="How long a `drop` or `ban` lasts; without it, until `restore`."
    )
    on: bool = Field(True, description="`false` lifts a restriction.")


class Simulated(BaseModel):
    """What was made to happen; the device's status follows as its host notices."""

    device_id: UUID
    action: SimulatedEvent


def _changes(body: NewDevice | DeviceEdit) -> DeviceChanges:
    warm_up = None if body.warm_up is None else WarmUpChange(**body.warm_up.model_dump())
    return DeviceChanges(**body.model_dump(exclude={"transport", "warm_up"}), warm_up=warm_up)


def _transport(asked: TransportKind | None, *, has_network: bool) -> TransportKind:
    if asked is TransportKind.SIMULATED and not has_network:
        raise Invalid.field("transport", "there is no simulated network in this deployment")
    return asked or (TransportKind.SIMULATED if has_network else TransportKind.WHATSAPP)


@router.get("/api/devices")
async def list_devices(
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    status: Annotated[DeviceStatus | None, Query(description="Only devices in this state.")] = None,
) -> ListEnvelope[DeviceView]:
    """One's own devices, oldest first."""
    after = paging.after(tuple[datetime, UUID])
    async with context.sessions.begin() as session:
        rows = await devices.list_devices(session, user.id, limit=paging.fetch, after=after, status=status)
    page, next_cursor = paging.cut(rows, lambda device: (device.created_at, device.id))
    now = context.clock()
    return listed([DeviceView.of(device, now) for device in page], next_cursor, "Devices")


@router.post("/api/devices", status_code=201)
async def add_device(body: NewDevice, user: UserDep, context: ContextDep) -> Envelope[DeviceBox]:
    """Add a device; it sends once it is linked."""
    transport = _transport(body.transport, has_network=context.settings.network_url is not None)
    async with context.sessions.begin() as session:
        device = await devices.add_device(session, user.id, _changes(body), context.clock(), transport)
    return success(DeviceBox(device=DeviceView.of(device, context.clock())), "Device added")


@router.get("/api/devices/{device_id}")
async def read_device(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeviceView]:
    """One device."""
    async with context.sessions.begin() as session:
        device = await devices.get_device(session, user.id, device_id)
    return success(DeviceView.of(device, context.clock()), "Device")


@router.put("/api/devices/{device_id}")
@router.patch("/api/devices/{device_id}")
async def change_device(device_id: UUID, body: DeviceEdit, user: UserDep, context: ContextDep) -> Envelope[DeviceView]:
    """Rename a device, or change its caps; a lower cap holds from the next message on."""
    async with context.sessions.begin() as session:
        device = await devices.change_device(session, user.id, device_id, _changes(body), context.clock())
        # Its lane may be waiting, until tomorrow perhaps, for what an old cap allows.
        waiting = await waiting_lanes(session, user.id, device_id)
    await wake_lanes(context.sessions, context.temporal, context.redis, waiting)
    return success(DeviceView.of(device, context.clock()), "Device changed")


@router.delete("/api/devices/{device_id}")
async def delete_device(device_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeviceView]:
    """Delete a device for good: it is logged out, what it has not sent moves to one's other devices, its history stays."""
    async with context.sessions.begin() as session:
        device = await devices.delete_device(session, user.id, device_id, context.clock(), context.settings.failover_after)
    nudge_webhooks(context.temporal, targets_told(session))
    if device.transport is TransportKind.SIMULATED:
        await _log_out_deleted(context, device_id)
    await wake_lanes(context.sessions, context.temporal, context.redis, [device_id])
    return success(DeviceView.of(device, context.clock()), "Device deleted")


async def _log_out_deleted(context: Context, device_id: UUID) -> None:
    """A deleted device never connects again, so its deletion does not wait for a network that is away."""
    try:
        async with open_network(context) as network:
            await end_link(network, device_id)
    except Unavailable as error:
        log.warning("deleted_device_not_logged_out", device=str(device_id), error=type(error).__name__)


@router.post("/api/devices/{device_id}/simulate")
async def simulate_event(
    device_id: UUID, body: Simulation, user: UserDep, context: ContextDep, network: NetworkDep
) -> Envelope[Simulated]:
    """Try out a failure: make something happen to a linked simulated device."""
    async with context.sessions.begin() as session:
        device = await devices.get_device(session, user.id, device_id)
    if device.transport != TransportKind.SIMULATED:
        raise Conflict(f"{device.device_name} is not a simulated device")
    if not devices.is_linked(device):
        raise Conflict(f"{device.device_name} is not linked to an account; link it first")
    await _make_happen(network, device_id, body)
    return success(Simulated(device_id=device_id, action=body.action), "Done")


async def _make_happen(network: SimulatedNetwork, device_id: UUID, what: Simulation) -> None:
    match what.action:
        case SimulatedEvent.DROP:
            await network.drop(device_id, what.seconds)
        case SimulatedEvent.RESTORE:
            await network.restore(device_id)
        case SimulatedEvent.BAN:
            await network.ban(device_id, what.seconds)
        case SimulatedEvent.LOG_OUT:
            await network.log_out(device_id)
        case SimulatedEvent.RESTRICT:
            await network.restrict(device_id, what.on)
