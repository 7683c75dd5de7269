"""Linking a simulated device: a code to show, and the scan that turns it into a link."""

import base64
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from siaran.errors import Conflict, Invalid, NotFound
from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import DeviceRef
from siaran.gateway.simulated_chance import phone_of
from siaran.gateway.simulated_config import loaded
from siaran.gateway.simulated_inbox import milliseconds, moment
from siaran.gateway.simulated_scripts import BEGIN_LINK, LINK, SCAN_LINK
from siaran.gateway.simulated_valkey import NetworkValkey

CODE_LIFETIME = timedelta(seconds=60)
_REMEMBERED = timedelta(hours=1)  # so that an expired code can be told from one that never was
_PAIRING_LETTERS = "123456789ABCDEFGHJKLMNPQRSTVWXYZ"


class LinkCodeUnknown(NotFound):
    """There is no such link code, or it was used."""


class LinkCodeExpired(Conflict):
    """The link code has expired."""


@dataclass(frozen=True, slots=True)
class LinkCode:
    """What to show: `code` is the content of a QR code or a pairing code, `token` names it in `scan`; it works once."""

    code: str
    token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AwaitedLink:
    """A linking that waits to be scanned; `phone` is empty for a QR code, which any phone may scan."""

    device_id: UUID
    token: str
    phone: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Linked:
    """A device that was linked to an account."""

    device_id: UUID
    jid: str
    phone: str
    link_generation: int

    @property
    def ref(self) -> DeviceRef:
        """What a transport connects."""
        return DeviceRef(self.device_id, self.jid, self.link_generation)


async def begin_link(valkey: NetworkValkey, device_id: UUID, now: datetime) -> LinkCode:
    """A fresh QR code for a device; its earlier code expires."""
    token = secrets.token_urlsafe(24)
    noise, identity, secret = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(3))
    expires_at = await _begin(valkey, device_id, token, "", now)
    return LinkCode(f"2@{token},{noise},{identity},{secret}", token, expires_at)


async def begin_pairing(valkey: NetworkValkey, device_id: UUID, phone: str, now: datetime) -> LinkCode:
    """A fresh pairing code to type on the phone with that number; the device's earlier code expires."""
    letters = "".join(secrets.choice(_PAIRING_LETTERS) for _ in range(8))
    token = f"{letters[:4]}-{letters[4:]}"
    return LinkCode(token, token, await _begin(valkey, device_id, token, checked_phone(phone), now))


async def awaited(valkey: NetworkValkey, code: str, now: datetime) -> AwaitedLink:
    """What a code (or its token) is for, without using it up; raises `LinkCodeUnknown` or `LinkCodeExpired`."""
    token = _token(code)
    device_id, phone, expires_at = await valkey.command("HMGET", keys.link(token), "device", "phone", "expires_at")
    if device_id is None:
        raise LinkCodeUnknown
    if int(expires_at) <= milliseconds(now):
        raise LinkCodeExpired
    return AwaitedLink(UUID(device_id), token, phone, moment(expires_at))


async def awaited_by(valkey: NetworkValkey, device_id: UUID, now: datetime) -> AwaitedLink | None:
    """The linking that a device waits for; None when there is none, or it was used or has expired."""
    token = await valkey.command("GET", keys.pending_link(device_id))
    try:
        return None if token is None else await awaited(valkey, token, now)
    except (LinkCodeUnknown, LinkCodeExpired):
        return None


async def scan(valkey: NetworkValkey, code: str, phone: str | None, now: datetime) -> Linked:
    """What a phone does with a code or its token; raises `LinkCodeUnknown` or `LinkCodeExpired`.

    Without `phone` the device gets the number that follows from the network's seed and its id.
    """
    outcome, *facts = await valkey.run(SCAN_LINK, [keys.link(_token(code))], [milliseconds(now)])
    if outcome == "unknown":
        raise LinkCodeUnknown
    if outcome == "expired":
        raise LinkCodeExpired
    device_id, asked_phone = UUID(facts[0]), str(facts[1])
    config, _ = await loaded(valkey)
    return await link(valkey, device_id, asked_phone or phone or phone_of(config, device_id))


async def link(valkey: NetworkValkey, device_id: UUID, phone: str) -> Linked:
    """Link a device at once: its generation counts up, its session store is empty, older connections are logged out."""
    number = checked_phone(phone)
    by_device = (keys.device, keys.connections, keys.store, keys.inbox, keys.chats)
    jid, generation = await valkey.run(
        LINK,
        [*(kind(device_id) for kind in by_device), keys.COMPANIONS, keys.taken(device_id)],
        [str(device_id), number],
    )
    return Linked(device_id, jid, number, generation)


def checked_phone(phone: str) -> str:
    """The phone itself; raises `Invalid` unless it is digits in international form."""
    if not (phone.isascii() and phone.isdigit() and 8 <= len(phone) <= 15) or phone.startswith("0"):
        raise Invalid.field("phone", "must be 8 to 15 digits in international form, without +")
    return phone


def _token(code: str) -> str:
    return code.removeprefix("2@").partition(",")[0]


async def _begin(valkey: NetworkValkey, device_id: UUID, token: str, phone: str, now: datetime) -> datetime:
    expires_at = now + CODE_LIFETIME
    await valkey.run(
        BEGIN_LINK,
        [keys.link(token), keys.pending_link(device_id)],
        [keys.link(""), token, str(device_id), phone, milliseconds(expires_at), _REMEMBERED // timedelta(milliseconds=1)],
    )
    return expires_at
