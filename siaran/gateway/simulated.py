"""The simulated network's transport: what a device host uses in place of the real WhatsApp client."""

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from siaran.clock import Clock, system_clock
from siaran.errors import Unavailable
from siaran.gateway import simulated_keys as keys
from siaran.gateway.interface import (
    Attempt,
    AttemptAnswer,
    Body,
    DeviceRef,
    DeviceState,
    History,
    Incoming,
    NotConnected,
    NotOnWhatsApp,
    OutcomeUnknown,
    RateLimited,
    Receipt,
    Rejected,
    Restricted,
    SendResult,
    TransportEvent,
)
from siaran.gateway.simulated_chance import NOT_ON_WHATSAPP, RATE_LIMITED, RESTRICTED, Fate, fate_of, is_on_whatsapp
from siaran.gateway.simulated_config import FAILURE_CODES, LiveConfig
from siaran.gateway.simulated_connections import Connection, Connections, refusal
from siaran.gateway.simulated_control import follow
from siaran.gateway.simulated_inbox import Courier, Entry, milliseconds, moment
from siaran.gateway.simulated_record import body_digest
from siaran.gateway.simulated_scripts import FIND_ATTEMPT, LOG_OUT, STORE_ATTEMPT, TRANSMIT
from siaran.gateway.simulated_valkey import NetworkValkey, NotReached

logger = logging.getLogger(__name__)

OPEN_SECONDS = 5.0


def new_whatsapp_id() -> str:
    """An id of the form the real client gives its messages; 72 random bits keep it unique."""
    return f"3EB0{secrets.token_hex(9).upper()}"


class SimulatedTransport:
    """A `Transport` to the simulated network whose Valkey is at `network_url`.

    A device that the network dropped, and every device after the network was out of reach, comes back by itself, with a
    `StateChanged` each time; so does a real client. `disconnect` and `close` report nothing.
    """

    connects_while_serving = True

    def __init__(self, network_url: str, *, clock: Clock = system_clock) -> None:
        self._clock = clock
        self._valkey = NetworkValkey(network_url)
        self._events: asyncio.Queue[TransportEvent | None] = asyncio.Queue()
        self._config = LiveConfig(self._valkey)
        self._courier = Courier(self._valkey, clock, self._events.put_nowait)
        self._connections = Connections(self._valkey, self._config, self._courier, clock, self._events.put_nowait)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin to follow the network; one that is out of reach is waited for in the background."""
        self._tasks = [
            asyncio.create_task(follow(self._valkey, self._connections), name="simulated-network-control"),
            asyncio.create_task(self._courier.run(), name="simulated-network-courier"),
        ]
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._connections.reachable.wait()
        except TimeoutError:
            logger.warning("the simulated network does not answer yet; devices connect once it does")

    async def close(self) -> None:
        """Give every device up and end `events()`."""
        await self._connections.disconnect_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._courier.close()
        await self._valkey.aclose()
        self._events.put_nowait(None)

    async def events(self) -> AsyncIterator[TransportEvent]:
        """What happens to the devices of this process, until `close`; for one consumer."""
        while (event := await self._events.get()) is not None:
            yield event

    def handled(self, event: Receipt | Incoming | History) -> None:
        """Let the network forget what it has reported; it has no histories."""
        if not isinstance(event, History):
            self._courier.handled(event)

    async def connect(self, device: DeviceRef) -> None:
        """Connect a device, which takes no simulated time; raises `LoggedOut`, `Banned` or `NotConnected`."""
        await self._connections.connect(device)

    async def disconnect(self, device_id: UUID) -> None:
        """Close a device's connection."""
        await self._connections.disconnect(device_id)

    def state(self, device_id: UUID) -> DeviceState:
        """The state of a device's connection in this process; `OFFLINE` for a device it does not hold."""
        return self._connections.state(device_id)

    def is_over(self, device_id: UUID) -> bool:
        """Whether a device's connection cannot come back by itself: replaced, banned or logged out, or never begun."""
        return self._connections.is_over(device_id)

    def frozen_since(self, device_id: UUID) -> datetime | None:  # noqa: ARG002 - no connection here is ever silent
        """None: simulated connections work or are gone."""
        return None

    async def send(self, device_id: UUID, to: str, body: Body, key: bytes) -> SendResult:
        """Note the attempt in the session store, transmit, and wait for the acknowledgement; see `Transport.send`."""
        connection = self._connections.online(device_id)
        lost = connection.lost
        whatsapp_id = new_whatsapp_id()
        fate = await self._store_attempt(connection, to, key, whatsapp_id)
        await asyncio.sleep(fate.uplink)
        if lost.is_set():
            raise NotConnected("the connection was lost before the transmission")
        at = milliseconds(self._clock())
        rejection = await self._transmit(connection, _Outgoing(to, body, key.hex(), whatsapp_id, fate), at)
        await asyncio.sleep(fate.downlink)
        if lost.is_set():
            raise OutcomeUnknown("the connection was lost before the acknowledgement")
        if rejection:
            raise self._rejected(rejection)
        if fate.ack_lost:
            await self._miss_acknowledgement(lost)
        return SendResult(whatsapp_id, moment(at))

    async def find_attempt(self, device_id: UUID, to: str, key: bytes, link_generation: int) -> Attempt:  # noqa: ARG002 - the key alone finds it
        """What the session store knows of an attempt; works without a connection.

        Raises `NotConnected` while the network, which keeps the simulated session stores, is out of reach.
        """
        try:
            answer = await self._valkey.run(FIND_ATTEMPT, [keys.store(device_id), keys.CONFIG], [key.hex()])
        except Unavailable as error:
            raise NotConnected(error.detail) from error
        if answer[0] == "forgotten":
            return Attempt(AttemptAnswer.NOT_ATTEMPTED)
        _, generation, whatsapp_id = answer
        if generation != str(link_generation):
            return Attempt(AttemptAnswer.CANNOT_TELL)
        return Attempt(AttemptAnswer.ATTEMPTED, whatsapp_id) if whatsapp_id else Attempt(AttemptAnswer.NOT_ATTEMPTED)

    async def is_on_whatsapp(self, device_id: UUID, phones: list[str]) -> dict[str, bool]:
        """Which of the phones have an account: a lasting property of each number."""
        self._connections.online(device_id)
        await asyncio.sleep(self._config.current.latency_ms[0] / 1000)
        return {phone: is_on_whatsapp(self._config.current, phone) for phone in phones}

    async def contact_names(self, device_id: UUID) -> dict[str, str]:
        """Nobody: simulated accounts know their contacts by number only."""
        self._connections.online(device_id)
        return {}

    async def picture_url(self, device_id: UUID, chat: str) -> str | None:  # noqa: ARG002 - nobody here has a picture
        """None: simulated contacts have no pictures."""
        self._connections.online(device_id)
        return None

    async def download(self, device_id: UUID, reference: bytes) -> bytes:  # noqa: ARG002 - there is nothing to read
        """Nothing: simulated contacts send texts only."""
        raise Rejected("media_gone", retryable=False)

    async def log_out(self, device_id: UUID) -> None:
        """Remove the link and delete the session store; raises `NotConnected` if the network does not answer."""
        device_keys = [kind(device_id) for kind in (keys.device, keys.connections, keys.store, keys.inbox, keys.taken)]
        try:
            await self._valkey.run(LOG_OUT, device_keys, [str(device_id)])
        except Unavailable as error:
            raise NotConnected(error.detail) from error

    async def _store_attempt(self, connection: Connection, to: str, key: bytes, whatsapp_id: str) -> Fate:
        """Write the session store, as the real client does before it transmits, and learn what will happen."""
        device = connection.device
        try:
            standing, _, *rest = await self._valkey.run(
                STORE_ATTEMPT,
                [keys.device(device.id), keys.connections(device.id), keys.store(device.id), keys.ATTEMPTS, keys.CONFIG],
                [connection.token, device.link_generation, milliseconds(self._clock()), key.hex(), whatsapp_id, to],
            )
            if standing != "online":
                raise refusal(standing)
            attempt, revision = rest
            return fate_of(await self._config.at(revision), to, attempt)
        except Unavailable as error:
            raise NotConnected(error.detail) from error

    async def _transmit(self, connection: Connection, message: "_Outgoing", at: int) -> str:
        """Hand the message to the network at a time (ms); returns the code of its refusal, empty if it was accepted."""
        device_id, token = connection.device.id, connection.token
        entries = message.entries(at)
        accepted = True
        try:
            standing, rejection = await self._valkey.run(
                TRANSMIT,
                [
                    *(kind(device_id) for kind in (keys.device, keys.connections, keys.chats, keys.inbox)),
                    keys.TRANSMISSIONS,
                    keys.REJECTIONS,
                ],
                [
                    *(token, connection.device.link_generation, at, message.fate.rejection or "", str(device_id)),
                    *(message.to, message.whatsapp_id, body_digest(message.body), message.body.type.value, message.key),
                    *(word for entry in entries for word in (entry.field, entry.value)),
                ],
            )
            accepted = standing == "online" and not rejection
        except NotReached as error:
            accepted = False
            raise NotConnected(error.detail) from error
        except Unavailable as error:
            raise OutcomeUnknown(error.detail) from error
        finally:
            # Also when it is unknown, or this call cancelled: what the network does not have, it does not deliver.
            if accepted:
                self._courier.schedule(device_id, token, entries)
        if standing != "online":
            raise refusal(standing)
        if accepted and message.fate.early_receipt:
            await self._courier.deliver_now(device_id, token, [entry for entry in entries if entry.due <= at])
        return str(rejection)

    async def _miss_acknowledgement(self, lost: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._config.current.ack_timeout_seconds):
                await lost.wait()
        except TimeoutError:
            raise OutcomeUnknown("timed out waiting for the acknowledgement") from None
        raise OutcomeUnknown("the connection was lost before the acknowledgement")

    def _rejected(self, code: str) -> Rejected:
        match code:
            case _ if code == NOT_ON_WHATSAPP:
                return NotOnWhatsApp()
            case _ if code == RATE_LIMITED:
                return RateLimited(self._config.current.rate_limit_seconds)
            case _ if code == RESTRICTED:
                return Restricted()
            case _:
                return Rejected(code, retryable=FAILURE_CODES[code])


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A message on its way; `key` is the idempotency key in hex."""

    to: str
    body: Body
    key: str
    whatsapp_id: str
    fate: Fate

    def entries(self, at: int) -> list[Entry]:
        """What the message brings the device later if it is accepted at a time (ms)."""
        receipts = [Entry.receipt(kind, self.whatsapp_id, at + round(after * 1000)) for kind, after in self.fate.receipts]
        if self.fate.answer is None:
            return receipts
        text, after = self.fate.answer
        return [*receipts, Entry.message(self.to, text, new_whatsapp_id(), at + round(after * 1000))]
