"""WhatsApp accounts: the phones, their linked devices, and what waits for a device that is away."""

import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from tests.whatsapp_server.nodes import LIDS, Jid, Node
from tests.whatsapp_server.signal import Correspondent, DeviceKeys

LID_PREFIX = "9"
"""WhatsApp's own number of a user, made up here so that it can be told from the phone number and back."""


class Unknown(Exception):
    """No account, device or code is known by that name."""


class DeviceConnection(Protocol):
    """What a linked device's connection can be asked to do."""

    async def send(self, node: Node) -> None:
        """Send a stanza; lost without a word if the connection is gone."""

    async def close(self) -> None:
        """Cut the connection off."""

    async def say_goodbye(self, node: Node) -> None:
        """Send a last stanza before cutting the connection off."""


def lid_of(number: str) -> Jid:
    """The LID of a phone number."""
    return Jid(LID_PREFIX + number, LIDS)


def number_of(jid: Jid) -> str:
    """The phone number of a personal address of either kind."""
    return jid.user.removeprefix(LID_PREFIX) if jid.server == LIDS else jid.user


@dataclass(slots=True)
class LinkedDevice:
    """A client that an account has linked."""

    number: str
    device: int
    identity: bytes
    keys: DeviceKeys | None = None
    prekeys: int = 0
    connection: DeviceConnection | None = None
    login_failure: dict[str, str] | None = None
    outbox: dict[tuple[str, str, str], Node] = field(default_factory=dict)
    thawed: asyncio.Event = field(default_factory=asyncio.Event)
    logins: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.thawed.set()

    @property
    def jid(self) -> Jid:
        return Jid(self.number, device=self.device)

    @property
    def lid(self) -> Jid:
        return Jid(LID_PREFIX + self.number, LIDS, self.device)

    async def deliver(self, node: Node) -> None:
        """Send a stanza now and again after each login, until the device acknowledges it."""
        self.outbox[node.tag, node.text_of("id"), node.text_of("type") if node.tag == "receipt" else ""] = node
        if self.connection:
            await self.connection.send(node)

    def acknowledge(self, node: Node) -> None:
        """Forget what the device says it has taken: an `ack`, or the receipt of a message."""
        tag = node.text_of("class") if node.tag == "ack" else "message"
        kind = node.text_of("type") if tag == "receipt" else ""
        self.outbox.pop((tag, node.text_of("id"), kind), None)


@dataclass(slots=True)
class Account:
    """A phone with its number; `phone` is its own end of conversations with its linked devices."""

    number: str
    phone: Correspondent = field(default_factory=Correspondent)
    devices: dict[int, LinkedDevice] = field(default_factory=dict)
    last_device: int = 0

    def link(self, identity: bytes) -> LinkedDevice:
        """Add a device under the next number: WhatsApp never gives one twice."""
        self.last_device += 1
        device = LinkedDevice(self.number, self.last_device, identity)
        self.devices[device.device] = device
        return device


class Accounts:
    """Every account, made when it is first linked; all other numbers are contacts."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}

    def __getitem__(self, number: str) -> Account:
        return self._accounts.setdefault(number, Account(number))

    def get(self, number: str) -> Account | None:
        """An account that has been linked before."""
        return self._accounts.get(number)

    def devices(self) -> list[LinkedDevice]:
        """Every linked device."""
        return [device for account in self._accounts.values() for device in account.devices.values()]

    def find(self, number: str, device: int | None = None) -> LinkedDevice:
        """A linked device, the account's newest unless told; raises `Unknown`."""
        account = self._accounts.get(number)
        linked = account.devices if account else {}
        if not linked or (device is not None and device not in linked):
            raise Unknown(f"no linked device {number}" + ("" if device is None else f":{device}"))
        return linked[max(linked) if device is None else device]
