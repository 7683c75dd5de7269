"""WhatsApp as Siaran sees it: one transport interface, its values, events and errors.

Two implementations stand behind it: the simulated network and the real client. A transport lives in one process and holds the
connections of many devices; nothing in here knows tenants, campaigns or the ledger.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID


class MessageType(StrEnum):
    """What a message carries."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    LOCATION = "location"
    CONTACT = "contact"
    POLL = "poll"


MEDIA_TYPES = frozenset({MessageType.IMAGE, MessageType.VIDEO, MessageType.AUDIO, MessageType.DOCUMENT})
"""Types that carry a file. The text of a location, contact or poll is its JSON, see `siaran.message_contents`."""


class DeviceState(StrEnum):
    """What a connection can be in, as the transport sees it."""

    CONNECTING = "connecting"
    ONLINE = "online"
    OFFLINE = "offline"
    REPLACED = "replaced"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"


@dataclass(frozen=True, slots=True)
class DeviceRef:
    """One linked device: its id, its account (`jid`), and the generation of its link, counted up at every new linking."""

    id: UUID
    jid: str
    link_generation: int


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file that a message carries."""

    mime_type: str
    file_name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """What to transmit: `text` is the text, the caption or the JSON of the type; `media_url` names the stored media.

    `read_media` reads that file, for a transport that has not uploaded it yet; it raises `Rejected` when it is gone.
    """

    type: MessageType
    text: str = ""
    media_url: str | None = None
    read_media: Callable[[], Awaitable[MediaFile]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SendResult:
    """The server's acknowledgement: WhatsApp's id of the message and the server's time of it (UTC)."""

    whatsapp_id: str
    sent_at: datetime


class AttemptAnswer(StrEnum):
    """What a session store can say about an idempotency key after a crash."""

    NOT_ATTEMPTED = "not_attempted"
    ATTEMPTED = "attempted"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The answer of `find_attempt`; `whatsapp_id` is set exactly when `answer` is `ATTEMPTED`."""

    answer: AttemptAnswer
    whatsapp_id: str | None = None


class ReceiptKind(StrEnum):
    """How far a message got on the recipient's side. `SENT` is the server's own late acknowledgement."""

    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A device's connection changed; `detail` is a short code such as `dropped` or `ban:3600`.

    `link_generation` says of which of its links this is news, where that is known: a later one has nothing to do with it.
    """

    device_id: UUID
    state: DeviceState
    at: datetime
    detail: str = ""
    link_generation: int | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt for one message of a device."""

    device_id: UUID
    whatsapp_id: str
    kind: ReceiptKind
    at: datetime


@dataclass(frozen=True, slots=True)
class ReceivedMedia:
    """The file of a message that has come in; `reference` is what `Transport.download` needs, opaque to everyone else.

    `kind` is `image`, `video`, `audio`, `document` or `sticker`; `size_bytes` is what the sender claims.
    """

    kind: str
    mime_type: str
    file_name: str
    size_bytes: int
    reference: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message that a contact sent to a device; `sender` is digits in international form.

    `is_personal` is False in groups, status updates, broadcast lists and channels; `from_me` says that the account itself wrote
    it, on its phone or another device. `chat` is the other side's number in a personal chat, else the chat's own address (such
    as `…@g.us`); empty stands for `sender`.
    """

    device_id: UUID
    sender: str
    text: str
    whatsapp_id: str
    at: datetime
    is_personal: bool = True
    from_me: bool = False
    chat: str = ""
    sender_name: str = ""
    media: ReceivedMedia | None = None


@dataclass(frozen=True, slots=True)
class PastChat:
    """A chat as the account's phone knows it; `chat` as in `Incoming`."""

    chat: str
    name: str
    unread: int
    is_group: bool
    is_muted: bool
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class History:
    """Old chats and messages that the account's phone has shared with a device; `whatsapp_id` names this piece of them."""

    device_id: UUID
    whatsapp_id: str
    chats: tuple[PastChat, ...]
    messages: tuple[Incoming, ...]


TransportEvent = StateChanged | Receipt | Incoming | History


class TransportError(Exception):
    """The transport could not do what was asked; `code` is stable and safe to store."""

    code = "transport_error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail


class NotConnected(TransportError):
    """Nothing was handed to the server: the device has no connection."""

    code = "not_connected"


class Rejected(TransportError):
    """The server decoded the message and refused it for good or for now: a definite rejection, nothing was delivered."""

    def __init__(self, code: str, *, retryable: bool, detail: str = "") -> None:
        self.code = code
        self.retryable = retryable
        super().__init__(detail)


class NotOnWhatsApp(Rejected):
    """The recipient has no WhatsApp account."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("not_on_whatsapp", retryable=False, detail=detail)


class Restricted(Rejected):
    """WhatsApp error 463: this device may not open new chats for now; established ones still work."""

    def __init__(self, detail: str = "") -> None:
        super().__init__("restricted_463", retryable=True, detail=detail)


class RateLimited(Rejected):
    """WhatsApp error 429: the device sends too fast; nothing was delivered, back off for `retry_after_seconds`."""

    def __init__(self, retry_after_seconds: float = 60.0, detail: str = "") -> None:
        super().__init__("rate_limited_429", retryable=True, detail=detail)
        self.retry_after_seconds = retry_after_seconds


class LoggedOut(TransportError):
    """The account removed this device; its session store is gone."""

    code = "logged_out"


class Banned(TransportError):
    """WhatsApp banned the account."""

    code = "banned"


class OutcomeUnknown(TransportError):
    """The message may or may not have been delivered; ask `find_attempt`, never send again blindly."""

    code = "outcome_unknown"


class Transport(Protocol):
    """The connections of one process to WhatsApp.

    At most one `send` per device may be in flight; callers hold the device's send lock. Where `connects_while_serving` is
    False, nothing else may be called while a device is connected: all of a process's devices are connected before any sends.
    """

    connects_while_serving: bool

    async def open(self) -> None:
        """Start the transport itself; no device is connected by it."""

    async def close(self) -> None:
        """Disconnect every device and end `events()`."""

    async def connect(self, device: DeviceRef) -> None:
        """Connect a linked device; returns once it is online.

        Raises `LoggedOut`, `Banned` or `NotConnected`. After `NotConnected` the device may come online by itself, with a
        `StateChanged`, as after any interruption, until `disconnect`.
        """

    async def disconnect(self, device_id: UUID) -> None:
        """Close a device's connection; unknown devices are ignored."""

    def state(self, device_id: UUID) -> DeviceState:
        """The state of a device's connection in this process."""

    def is_over(self, device_id: UUID) -> bool:
        """Whether a device's connection cannot come back by itself in this process."""

    def frozen_since(self, device_id: UUID) -> datetime | None:
        """Since when a device's connection is there and answers nothing; None while it answers."""

    async def send(self, device_id: UUID, to: str, body: Body, key: bytes) -> SendResult:
        """Transmit one message and wait for the server's acknowledgement, 75 s at most.

        `to` is digits in international form, `key` the 32-byte idempotency key of this attempt, stored by the session before
        anything is transmitted. Raises `NotConnected` or a `Rejected` (nothing was delivered), `LoggedOut`, `Banned` or
        `OutcomeUnknown` (it may have been).
        """

    async def find_attempt(self, device_id: UUID, to: str, key: bytes, link_generation: int) -> Attempt:
        """What the device's session store knows of an attempt with this key, made under the given link generation.

        Raises `NotConnected` while the store itself cannot be asked: that is no answer, ask again.
        """

    async def is_on_whatsapp(self, device_id: UUID, phones: list[str]) -> dict[str, bool]:
        """Which of the phones (digits, international form) have an account; raises `NotConnected`."""

    async def contact_names(self, device_id: UUID) -> dict[str, str]:
        """The names under which the account knows its contacts, by phone; raises `NotConnected`."""

    async def picture_url(self, device_id: UUID, chat: str) -> str | None:
        """Where the picture of a chat can be read for some time, None where there is none to be seen; raises `NotConnected`."""

    async def download(self, device_id: UUID, reference: bytes) -> bytes:
        """The file of a message that came in; raises `NotConnected`, or `Rejected` when WhatsApp has it no more."""

    async def log_out(self, device_id: UUID) -> None:
        """Remove the link on WhatsApp's side and delete the session store."""

    def events(self) -> AsyncIterator[TransportEvent]:
        """State changes, receipts and incoming messages of all devices of this process; one consumer.

        A receipt or message that nobody has declared `handled` is reported again to a later connection of its device, in this
        process or another one: consumers have to bear repetitions.
        """

    def handled(self, event: Receipt | Incoming | History) -> None:
        """What an event said has been written down: acknowledge it to WhatsApp, which then forgets it."""
