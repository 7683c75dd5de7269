"""What devices are still to receive: receipts and messages, kept in the network's Valkey until somebody has handled them."""

import asyncio
import contextlib
import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from siaran.clock import Clock
from siaran.errors import Unavailable
from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import Incoming, Receipt, ReceiptKind
from siaran.gateway.simulated_scripts import HANDLED, TAKE
from siaran.gateway.simulated_valkey import NetworkValkey

TICK_SECONDS = 0.05
RETRY_SECONDS = 1.0
_BATCH = 200
_MESSAGE = "message"


def milliseconds(moment: datetime) -> int:
    """A moment as milliseconds of the Unix epoch."""
    return round(moment.timestamp() * 1000)


def moment(value: int | str) -> datetime:
    """Back from `milliseconds`."""
    return datetime.fromtimestamp(int(value) / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to receive, and when: the receipt of a message of the device, or a message from a contact (`sender` is set).

    In Valkey its field is `{kind}:{whatsapp id}`, its value the due time in ms and, for a message, sender and text.
    """

    kind: str
    whatsapp_id: str
    due: int
    sender: str = ""
    text: str = ""

    @classmethod
    def receipt(cls, kind: ReceiptKind, whatsapp_id: str, due: int) -> "Entry":
        """The receipt of a message, due in ms of the Unix epoch."""
        return cls(kind.value, whatsapp_id, due)

    @classmethod
    def message(cls, sender: str, text: str, whatsapp_id: str, due: int) -> "Entry":
        """A contact's message, due in ms of the Unix epoch."""
        return cls(_MESSAGE, whatsapp_id, due, sender, text)

    @classmethod
    def parsed(cls, field: str, value: str) -> "Entry":
        """Back from `field` and `value`."""
        kind, whatsapp_id = field.split(":", 1)
        due, _, rest = value.partition(" ")
        sender, _, text = rest.partition(" ")
        return cls(kind, whatsapp_id, int(due), sender, text)

    @property
    def field(self) -> str:
        """Its name in the inbox."""
        return _field(self.kind, self.whatsapp_id)

    @property
    def value(self) -> str:
        """What the inbox holds under that name."""
        return f"{self.due} {self.sender} {self.text}" if self.sender else str(self.due)

    def event(self, device_id: UUID) -> Receipt | Incoming:
        """The entry as the event that a transport reports."""
        at = moment(self.due)
        if self.kind == _MESSAGE:
            return Incoming(device_id, self.sender, self.text, self.whatsapp_id, at)
        return Receipt(device_id, self.whatsapp_id, ReceiptKind(self.kind), at)


def _field(kind: str, whatsapp_id: str) -> str:
    return f"{kind}:{whatsapp_id}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """An entry on its way to one connection of a device."""

    device_id: UUID
    token: str
    entry: Entry


class Courier:
    """Takes entries when they are due and hands their events on: one heap and one task for all devices of a process."""

    def __init__(self, valkey: NetworkValkey, clock: Clock, emit: Callable[[Receipt | Incoming], None]) -> None:
        self._valkey = valkey
        self._clock = clock
        self._emit = emit
        self._heap: list[tuple[int, int, Delivery]] = []
        self._order = count()
        self._handled: list[tuple[UUID, str]] = []
        self._filled = asyncio.Event()

    def schedule(self, device_id: UUID, token: str, entries: Iterable[Entry]) -> None:
        """Deliver entries to a connection when they are due; those of an earlier connection are left to the present one."""
        for entry in entries:
            heapq.heappush(self._heap, (entry.due, next(self._order), Delivery(device_id, token, entry)))
        self._filled.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            if not self._heap and not self._handled:
                self._filled.clear()
                await self._filled.wait()
            due = self._due()
            if due:
                await self._deliver(due)
            await self._forget_handled()
            # Waiting a moment gathers what is due shortly after into one round trip.
            await asyncio.sleep(TICK_SECONDS)

    def handled(self, event: Receipt | Incoming) -> None:
        """Remove an event's entry; if that fails, a later connection delivers it again."""
        kind = event.kind.value if isinstance(event, Receipt) else _MESSAGE
        self._handled.append((event.device_id, _field(kind, event.whatsapp_id)))
        self._filled.set()

    async def close(self) -> None:
        """Remove the entries of what has been handled."""
        await self._forget_handled()

    async def deliver_now(self, device_id: UUID, token: str, entries: Iterable[Entry]) -> None:
        """Deliver entries without waiting; they may also be scheduled, since each is taken only once."""
        await self._deliver([Delivery(device_id, token, entry) for entry in entries])

    def _due(self) -> list[Delivery]:
        now = milliseconds(self._clock())
        due: list[Delivery] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due

    async def _deliver(self, due: list[Delivery]) -> None:
        for start in range(0, len(due), _BATCH):
            batch = due[start : start + _BATCH]
            try:
                await self._take(batch)
            except Unavailable:
                # Taken or not, Valkey knows: what is still there is found at the next try or by the next connection.
                self._put_off(due[start:])
                return

    async def _take(self, batch: list[Delivery]) -> None:
        taken = await self._valkey.run(
            TAKE,
            [kind(one.device_id) for one in batch for kind in (keys.connections, keys.inbox, keys.taken)],
            [word for one in batch for word in (one.token, one.entry.field)],
        )
        for one, value in zip(batch, taken, strict=True):
            if value is not None:
                self._emit(one.entry.event(one.device_id))

    async def _forget_handled(self) -> None:
        while self._handled:
            batch, self._handled = self._handled[:_BATCH], self._handled[_BATCH:]
            by_device = [kind(device_id) for device_id, _ in batch for kind in (keys.inbox, keys.taken)]
            with contextlib.suppress(Unavailable):
                await self._valkey.run(HANDLED, by_device, [field for _, field in batch])

    def _put_off(self, deliveries: list[Delivery]) -> None:
        later = milliseconds(self._clock()) + round(RETRY_SECONDS * 1000)
        for one in deliveries:
            heapq.heappush(self._heap, (later, next(self._order), one))
        self._filled.set()
