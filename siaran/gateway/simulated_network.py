"""The simulated network seen from outside: what happens to devices, what it is told to do, and what it recorded."""

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from siaran.clock import Clock, system_clock
from siaran.errors import NotFound
from siaran.gateway import simulated_keys as keys
from siaran.gateway import simulated_linking as linking
from siaran.gateway import simulated_record as record
from siaran.gateway.simulated import new_whatsapp_id
from siaran.gateway.simulated_config import NetworkConfig, loaded
from siaran.gateway.simulated_control import NoticeKind
from siaran.gateway.simulated_inbox import Entry, milliseconds, moment
from siaran.gateway.simulated_linking import AwaitedLink, LinkCode, Linked
from siaran.gateway.simulated_record import NetworkCounts, Rejection, Transmission
from siaran.gateway.simulated_scripts import CONFIGURE, DELIVER, FOR_EVER, INTERRUPT, LOG_OUT, RESTORE, RESTRICT
from siaran.gateway.simulated_valkey import NetworkValkey


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """What the network knows of a device; an end in the year 9999 is none."""

    device_id: UUID
    phone: str
    jid: str
    link_generation: int
    linked: bool
    restricted: bool
    dropped_until: datetime | None
    banned_until: datetime | None


class SimulatedNetwork:
    """Controls the simulated network and reads its record, from any process.

    What is done to a device takes effect in running transports at once, and lasts. Every method raises `Unavailable` while the
    network's Valkey does not answer, and `NotFound` for a device that was never linked.
    """

    def __init__(self, network_url: str, *, clock: Clock = system_clock) -> None:
        self._valkey = NetworkValkey(network_url)
        self._clock = clock

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections to Valkey."""
        await self._valkey.aclose()

    async def config(self) -> NetworkConfig:
        """The present configuration."""
        return (await loaded(self._valkey))[0]

    async def configure(self, **changes: Any) -> NetworkConfig:
        """Change some fields of the configuration; sends that begin afterwards follow it.

        Raises `Invalid`, naming each field that is unknown or out of range; then nothing is changed.
        """
        config = (await self.config()).changed(**changes)
        fields = config.to_hash() | {"revision": secrets.token_hex(8)}
        await self._valkey.run(CONFIGURE, [keys.CONFIG], [word for pair in fields.items() for word in pair])
        return config

    async def begin_link(self, device_id: UUID) -> LinkCode:
        """A fresh QR code for a device, valid for a minute; the device's earlier code expires."""
        return await linking.begin_link(self._valkey, device_id, self._clock())

    async def begin_pairing(self, device_id: UUID, phone: str) -> LinkCode:
        """A fresh pairing code for a device and a phone, valid for a minute; the device's earlier code expires."""
        return await linking.begin_pairing(self._valkey, device_id, phone, self._clock())

    async def awaited_link(self, code: str) -> AwaitedLink:
        """What a code (or its token) is for, without using it up; raises `LinkCodeUnknown` or `LinkCodeExpired`."""
        return await linking.awaited(self._valkey, code, self._clock())

    async def link_awaited_by(self, device_id: UUID) -> AwaitedLink | None:
        """The linking that a device waits for, if its code has been neither used nor expired."""
        return await linking.awaited_by(self._valkey, device_id, self._clock())

    async def scan(self, code: str, phone: str | None = None) -> Linked:
        """Scan a code (or its token) and so link its device; raises `LinkCodeUnknown` or `LinkCodeExpired`."""
        return await linking.scan(self._valkey, code, phone, self._clock())

    async def link(self, device_id: UUID, phone: str) -> Linked:
        """Link a device without a code: its generation counts up, its session store is empty, a ban or drop is over."""
        return await linking.link(self._valkey, device_id, phone)

    async def device(self, device_id: UUID) -> SimulatedDevice:
        """What the network knows of a device."""
        words: list[str] = await self._valkey.command("HGETALL", keys.device(device_id))
        if not words:
            raise _unknown(device_id)
        facts = dict(zip(words[::2], words[1::2], strict=True))
        return SimulatedDevice(
            device_id=device_id,
            phone=facts["phone"],
            jid=facts["jid"],
            link_generation=int(facts["link_generation"]),
            linked=facts["linked"] == "1",
            restricted=facts.get("restricted") == "1",
            dropped_until=moment(facts["dropped_until"]) if "dropped_until" in facts else None,
            banned_until=moment(facts["banned_until"]) if "banned_until" in facts else None,
        )

    async def drop(self, device_id: UUID, for_seconds: float | None = None) -> None:
        """Break a device's connection and let no other in, for some seconds or until `restore`."""
        await self._interrupt(device_id, "dropped", for_seconds)

    async def ban(self, device_id: UUID, for_seconds: float | None = None) -> None:
        """Ban a device's account, for some seconds or until `restore`; its session store stays."""
        await self._interrupt(device_id, "banned", for_seconds)

    async def restore(self, device_id: UUID) -> None:
        """End a drop and a ban."""
        self._known(device_id, await self._valkey.run(RESTORE, [keys.device(device_id)], [str(device_id)]))

    async def log_out(self, device_id: UUID) -> None:
        """Remove a device's link, as if on its phone: its session store is gone, until it is linked again."""
        by_device = (keys.device, keys.connections, keys.store, keys.inbox, keys.taken)
        self._known(device_id, await self._valkey.run(LOG_OUT, [kind(device_id) for kind in by_device], [str(device_id)]))

    async def restrict(self, device_id: UUID, on: bool = True) -> None:
        """Forbid (or allow again) a device to open new chats: error 463."""
        self._known(device_id, await self._valkey.run(RESTRICT, [keys.device(device_id)], ["1" if on else "0"]))

    async def reply(self, device_id: UUID, phone: str, text: str) -> str:
        """Let a contact write to a device, which hears it now or when it connects; returns the message's WhatsApp id."""
        sender = linking.checked_phone(phone)
        entry = Entry.message(sender, text, new_whatsapp_id(), milliseconds(self._clock()))
        by_device = (keys.device, keys.chats, keys.inbox)
        words = [str(device_id), sender, entry.field, entry.value]
        self._known(device_id, await self._valkey.run(DELIVER, [kind(device_id) for kind in by_device], words))
        return entry.whatsapp_id

    def transmissions(self, after_id: str | None = None) -> AsyncIterator[Transmission]:
        """The accepted messages in their order, from the start or after one of them."""
        return record.transmissions(self._valkey, after_id)

    def rejections(self, after_id: str | None = None) -> AsyncIterator[Rejection]:
        """The refused messages in their order, from the start or after one of them."""
        return record.rejections(self._valkey, after_id)

    async def transmitted(self) -> int:
        """How many messages were accepted so far; cheap, for live progress."""
        return int(await self._valkey.command("XLEN", keys.TRANSMISSIONS))

    async def counts(self) -> NetworkCounts:
        """The record in numbers, by reading all of it."""
        return await record.counted(self._valkey)

    async def reset(self) -> None:
        """Forget everything: record, links, configuration. Connected devices are logged out."""
        cursor = "0"
        while True:
            cursor, found = await self._valkey.command("SCAN", cursor, "MATCH", f"{keys.PREFIX}*", "COUNT", 1000)
            if found:
                await self._valkey.command("UNLINK", *found)
            if cursor == "0":
                break
        await self._valkey.command("PUBLISH", keys.CONTROL, json.dumps({"kind": NoticeKind.RESET}))

    async def _interrupt(self, device_id: UUID, how: str, for_seconds: float | None) -> None:
        until = FOR_EVER if for_seconds is None else milliseconds(self._clock()) + round(for_seconds * 1000)
        by_device = [keys.device(device_id), keys.connections(device_id)]
        self._known(device_id, await self._valkey.run(INTERRUPT, by_device, [str(device_id), how, until]))

    def _known(self, device_id: UUID, answer: int) -> None:
        if answer == 0:
            raise _unknown(device_id)


def _unknown(device_id: UUID) -> NotFound:
    return NotFound(f"the simulated network has no linked device {device_id}")
