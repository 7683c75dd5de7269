"""Linking simulated devices to accounts, and ending the links of all devices; every query names the owner.

The simulated network is asked inside the caller's transaction, with the device's row locked: two scans at once cannot both
link it, and when the network does not answer nothing has changed. A link that the database refuses is taken back.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_device
from siaran.devices import get_device, is_linked
from siaran.errors import Conflict, NotFound, Unavailable
from siaran.gateway.simulated_linking import LinkCode, Linked
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.linking_rows import refuse_second_device, unlinked_device, write_link
from siaran.models import Device, DeviceStatus, TransportKind
from siaran.pairings import cancel_pairing
from siaran.unlinkings import want_unlinking
from siaran.webhook_news import announce_end_of_link


@dataclass(frozen=True, slots=True)
class ShownCode:
    """The QR code that a device's page shows; `token` names it when it is scanned."""

    token: str
    expires_at: datetime


async def show_code(session: AsyncSession, network: SimulatedNetwork, user_id: UUID, device_id: UUID) -> ShownCode:
    """The QR code that the device waits for, or a fresh one; raises `NotFound`, or `Conflict` if it is linked."""
    device = await _unlinked_device(session, user_id, device_id)
    awaited = await network.link_awaited_by(device.id)
    if awaited is not None and not awaited.phone:
        return ShownCode(awaited.token, awaited.expires_at)
    fresh = await network.begin_link(device.id)
    return ShownCode(fresh.token, fresh.expires_at)


async def begin_pairing(
    session: AsyncSession, network: SimulatedNetwork, user_id: UUID, device_id: UUID, phone: str
) -> LinkCode:
    """A fresh pairing code for a device and a phone (digits, international form); raises as `link_phone`."""
    device = await _unlinked_device(session, user_id, device_id)
    await refuse_second_device(session, device, phone)
    return await network.begin_pairing(device.id, phone)


async def scan_code(session: AsyncSession, network: SimulatedNetwork, user_id: UUID, code: str, now: datetime) -> Device:
    """Link exactly the device that a code was made for; raises `NotFound` for another user's, `Conflict` for one too late."""
    awaited = await network.awaited_link(code)
    device = await _unlinked_device(session, user_id, awaited.device_id)
    if awaited.phone:
        await refuse_second_device(session, device, awaited.phone)
    return await _note_link(session, network, device, await network.scan(code), now)


async def scan_at_once(
    session: AsyncSession, network: SimulatedNetwork, user_id: UUID, device_id: UUID, now: datetime
) -> Device:
    """Show a QR code and scan it, in one; raises `NotFound` or `Conflict`."""
    device = await _unlinked_device(session, user_id, device_id)
    code = await network.begin_link(device.id)
    return await _note_link(session, network, device, await network.scan(code.token), now)


async def link_phone(
    session: AsyncSession, network: SimulatedNetwork, user_id: UUID, device_id: UUID, *, phone: str, now: datetime
) -> Device:
    """Link a device to the account of a phone (digits, international form).

    Raises `NotFound`, or `Conflict` when the device is linked already or the account to another device of the owner.
    """
    device = await _unlinked_device(session, user_id, device_id)
    await refuse_second_device(session, device, phone)
    return await _note_link(session, network, device, await network.link(device.id, phone), now)


async def log_out(
    session: AsyncSession, network: SimulatedNetwork | None, user_id: UUID, device_id: UUID, now: datetime
) -> Device:
    """End a device's link on the network and here; its name, caps and history stay. One without a link stays as it is.

    WhatsApp is told of a real account's log-out afterwards, by the host that holds it or a fleet. Raises `NotFound`, or
    `Unavailable` for a simulated device without a network.
    """
    device = await get_device(session, user_id, device_id, lock=True)
    await cancel_pairing(session, user_id, device_id, now)
    if device.jid is not None:
        await _end_link_of(session, network, device)
        before = device.status
        device.jid = None
        device.status = DeviceStatus.LOGGED_OUT
        # What its host still has to report is about the old link, and must not be noted on a new one.
        device.host_id = None
        device.offline_since_at = device.offline_since_at or now
        note_device(session, user_id, device.id, "logged_out")
        await announce_end_of_link(session, device, before, now)
        await session.flush()
        await session.refresh(device)
    return device


async def _end_link_of(session: AsyncSession, network: SimulatedNetwork | None, device: Device) -> None:
    if device.transport is TransportKind.WHATSAPP:
        await want_unlinking(session, device)
    elif network is None:
        raise Unavailable("there is no simulated network in this deployment")
    else:
        await end_link(network, device.id)


async def end_link(network: SimulatedNetwork, device_id: UUID) -> None:
    """End a link on the network; one that it does not know is ended already."""
    try:
        await network.log_out(device_id)
    except NotFound:
        return


async def reconnect(session: AsyncSession, user_id: UUID, device_id: UUID) -> Device:
    """Show a linked device as connecting, which its host then tries; raises `NotFound`, or `Conflict` if it has no link."""
    device = await get_device(session, user_id, device_id, lock=True)
    if not is_linked(device):
        raise Conflict(f"{device.device_name} is not linked to an account; link it first")
    if device.status not in {DeviceStatus.ONLINE, DeviceStatus.CONNECTING}:
        device.status = DeviceStatus.CONNECTING
        await session.flush()
        await session.refresh(device)
    return device


async def _unlinked_device(session: AsyncSession, user_id: UUID, device_id: UUID) -> Device:
    return await unlinked_device(session, user_id, device_id, TransportKind.SIMULATED)


async def _note_link(session: AsyncSession, network: SimulatedNetwork, device: Device, linked: Linked, now: datetime) -> Device:
    """Write a new link down, or end it on the network, too."""
    try:
        await write_link(session, device, jid=linked.jid, phone=linked.phone, link_generation=linked.link_generation, now=now)
    except Conflict:
        await end_link(network, linked.device_id)
        raise
    return device
