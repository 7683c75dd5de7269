"""Linking devices to real accounts: what the API asks for, and what the process that links may write down at the end."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.devices import get_device, is_linked
from siaran.errors import NotFound
from siaran.linking_rows import refuse_second_device, unlinked_device, write_link
from siaran.models import Device, Pairing, PairingMethod, PairingStatus, TransportKind
from siaran.pairings import want_pairing
from siaran.tenancy import select_owned

ACCOUNT_TAKEN = "account_taken"

_NUMBER = re.compile(r"\d+")


class Superseded(Exception):
    """The linking is over already: cancelled, expired, or its device deleted. What was linked belongs to nobody."""


@dataclass(frozen=True, slots=True)
class LinkingTask:
    """What the process of one linking is there for: exactly this device of this user, in this generation of its link."""

    pairing_id: UUID
    user_id: UUID
    device_id: UUID
    link_generation: int
    method: PairingMethod
    phone: str


def phone_of(jid: str) -> str:
    """The account's number in a device's address such as `60123456789:7@s.whatsapp.net`."""
    match = _NUMBER.match(jid)
    if match is None:
        raise ValueError("the address of a linked device begins with its number")
    return match[0]


async def begin_linking(
    session: AsyncSession, user_id: UUID, device_id: UUID, phone: str, *, now: datetime, lasts: timedelta
) -> Pairing:
    """The linking of a device that is under way, or a new one; with a phone (digits) by a code to type there, else by QR code.

    Raises `NotFound`, or `Conflict` if the device is linked already or the phone's account to another device of the owner.
    """
    device = await unlinked_device(session, user_id, device_id, TransportKind.WHATSAPP)
    if phone:
        await refuse_second_device(session, device, phone)
    method = PairingMethod.CODE if phone else PairingMethod.QR
    return await want_pairing(session, device, method, phone, now=now, lasts=lasts)


async def take_up(session: AsyncSession, pairing_id: UUID, server: str, pid: int) -> LinkingTask | None:
    """What a running linking of this server is to do, and who does it; None if it is over, or its device may not be linked."""
    found = (await session.execute(select(Pairing).where(Pairing.id == pairing_id))).scalar_one_or_none()
    if found is None:
        return None
    try:
        device, pairing = await _locked(session, found.user_id, found.device_id, pairing_id)
    except NotFound:
        return None
    if not _is_running(pairing, server) or is_linked(device):
        return None
    pairing.pid = pid
    return LinkingTask(pairing_id, pairing.user_id, device.id, device.link_generation, pairing.method, pairing.phone)


async def settle(session: AsyncSession, task: LinkingTask, server: str, jid: str, now: datetime) -> None:
    """Write down the link that a process has made, once; doing it again changes nothing.

    Raises `Superseded` if the linking is not its own any more, and `Conflict` if the account may not be linked to this device;
    nothing is then written, and the link must be ended on WhatsApp's side.
    """
    try:
        device, pairing = await _locked(session, task.user_id, task.device_id, task.pairing_id)
    except NotFound as error:
        raise Superseded from error
    if pairing.status is PairingStatus.LINKED:
        return
    if not _is_running(pairing, server) or device.link_generation != task.link_generation:
        raise Superseded
    device = await unlinked_device(session, task.user_id, task.device_id, TransportKind.WHATSAPP)
    await write_link(session, device, jid=jid, phone=phone_of(jid), link_generation=task.link_generation, now=now)
    pairing.status, pairing.ended_at = PairingStatus.LINKED, now
    await session.flush()


async def _locked(session: AsyncSession, user_id: UUID, device_id: UUID, pairing_id: UUID) -> tuple[Device, Pairing]:
    """A device and one of its linkings, locked in the order in which everybody locks them; raises `NotFound`."""
    device = await get_device(session, user_id, device_id, lock=True)
    query = select_owned(Pairing, user_id).where(Pairing.id == pairing_id, Pairing.device_id == device_id).with_for_update()
    pairing = (await session.execute(query.execution_options(populate_existing=True))).scalar_one_or_none()
    if pairing is None:
        raise NotFound
    return device, pairing


def _is_running(pairing: Pairing, server: str) -> bool:
    return pairing.status is PairingStatus.RUNNING and pairing.server == server
