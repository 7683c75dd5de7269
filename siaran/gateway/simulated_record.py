"""What the simulated network noted: every message it accepted, never keyed by message, and every one it refused."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import Body, MessageType
from siaran.gateway.simulated_inbox import moment
from siaran.gateway.simulated_valkey import NetworkValkey

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Transmission:
    """One accepted message; `id` is its place in the record, `key` the idempotency key of the attempt (hex)."""

    id: str
    device_id: UUID
    to: str
    whatsapp_id: str
    body_sha256: str
    type: MessageType
    key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused message."""

    id: str
    device_id: UUID
    to: str
    code: str
    key: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NetworkCounts:
    """The record in numbers: `messages` are different pairs of recipient and body, so what is above them was repeated."""

    transmissions: int
    keys: int
    recipients: int
    messages: int
    by_device: dict[UUID, int]
    rejections: dict[str, int]

    @property
    def repeated(self) -> int:
        """How often a recipient got a body again."""
        return self.transmissions - self.messages


def body_digest(body: Body) -> str:
    """The SHA-256 (hex) under which the record knows a body."""
    return hashlib.sha256("\0".join((body.type, body.text, body.media_url or "")).encode()).hexdigest()


async def transmissions(valkey: NetworkValkey, after_id: str | None = None) -> AsyncIterator[Transmission]:
    """The accepted messages in their order, from the start or after one of them."""
    async for record_id, fields in _entries(valkey, keys.TRANSMISSIONS, after_id):
        yield Transmission(
            id=record_id,
            device_id=UUID(fields["device"]),
            to=fields["to"],
            whatsapp_id=fields["id"],
            body_sha256=fields["body"],
            type=MessageType(fields["type"]),
            key=fields["key"],
            at=moment(fields["at"]),
        )


async def rejections(valkey: NetworkValkey, after_id: str | None = None) -> AsyncIterator[Rejection]:
    """The refused messages in their order, from the start or after one of them."""
    async for record_id, fields in _entries(valkey, keys.REJECTIONS, after_id):
        yield Rejection(record_id, UUID(fields["device"]), fields["to"], fields["code"], fields["key"], moment(fields["at"]))


async def counted(valkey: NetworkValkey) -> NetworkCounts:
    """Read the whole record and count it: a matter of seconds from 100,000 messages on."""
    devices: Counter[str] = Counter()
    attempts: set[str] = set()
    messages: set[tuple[str, str]] = set()
    async for _, fields in _entries(valkey, keys.TRANSMISSIONS, None):
        devices[fields["device"]] += 1
        attempts.add(fields["key"])
        messages.add((fields["to"], fields["body"]))
    codes: Counter[str] = Counter()
    async for _, fields in _entries(valkey, keys.REJECTIONS, None):
        codes[fields["code"]] += 1
    return NetworkCounts(
        transmissions=devices.total(),
        keys=len(attempts),
        recipients=len({to for to, _ in messages}),
        messages=len(messages),
        by_device={UUID(device): number for device, number in devices.items()},
        rejections=dict(codes),
    )


async def _entries(valkey: NetworkValkey, stream: str, after_id: str | None) -> AsyncIterator[tuple[str, dict[str, str]]]:
    start = f"({after_id}" if after_id else "-"
    while page := await valkey.command("XRANGE", stream, start, "+", "COUNT", _PAGE):
        for record_id, words in page:
            yield record_id, dict(zip(words[::2], words[1::2], strict=True))
        start = f"({page[-1][0]}"
