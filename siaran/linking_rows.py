"""The device's side of a link, whatever the transport: which device may be linked, and how a link is written down."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_device
from siaran.devices import get_device, is_linked
from siaran.errors import Conflict
from siaran.ledger.moves import release_held
from siaran.models import Device, DeviceStatus, TransportKind, User
from siaran.tenancy import select_owned

KINDS = {TransportKind.SIMULATED: "a simulated device", TransportKind.WHATSAPP: "a device of a real account"}


async def unlinked_device(session: AsyncSession, user_id: UUID, device_id: UUID, transport: TransportKind) -> Device:
    """A device that may be linked now, its row locked; raises `NotFound`, or `Conflict` if it is linked or of another kind."""
    device = await get_device(session, user_id, device_id, lock=True)
    if device.transport != transport:
        raise Conflict(f"{device.device_name} is not {KINDS[transport]}")
    if is_linked(device):
        raise Conflict(f"{device.device_name} is linked to {device.phone} already; log it out first")
    # Two devices of one owner that are linked to one account at the same moment must see each other.
    await session.execute(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    return device


async def refuse_second_device(session: AsyncSession, device: Device, phone: str) -> None:
    """Raise `Conflict` if another device of the owner is linked to the account: together they would break its caps."""
    query = select_owned(Device, device.user_id).where(
        Device.phone == phone,
        Device.jid.is_not(None),
        Device.status != DeviceStatus.LOGGED_OUT,
        Device.id != device.id,
        Device.deleted_at.is_(None),
    )
    other = (await session.execute(query.limit(1))).scalar_one_or_none()
    if other is not None:
        raise Conflict(f"the account {phone} is linked to your device {other.device_name} already; log that one out first")


async def write_link(
    session: AsyncSession, device: Device, *, jid: str, phone: str, link_generation: int, now: datetime
) -> None:
    """Write a new link down; the fleet then gives the device to a host, which sets it online.

    Raises `Conflict` if the account is linked to another device already; the transaction is then over.
    """
    await refuse_second_device(session, device, phone)
    if device.warm_up_started_at is not None and device.phone != phone:
        # It is the account that warms up, and this one is new to us.
        device.warm_up_started_at = now
    device.jid = jid
    device.phone = phone
    device.link_generation = link_generation
    device.status = DeviceStatus.CONNECTING
    device.host_id = None
    device.offline_since_at = device.offline_since_at or now
    try:
        if device.restricted_until_at is not None:
            await release_held(session, device.user_id, device.id, device.restricted_until_at, now)
            device.restricted_until_at = None
        device.last_error = None
        device.last_error_at = None
        note_device(session, device.user_id, device.id, "linked")
        await session.flush()
    except IntegrityError as error:
        raise Conflict(f"the account {phone} is linked to a device already") from error
    await session.refresh(device)
