"""What the server has received: every transmission of a message, appended, never merged by its id."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SentMedia:
    """A file in a message as its recipient reads it; `sha256` is of the decrypted file, None if it was never uploaded."""

    url: str
    mime_type: str
    size: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Transmission:
    """One arrival of one message at the server, decrypted by its recipient.

    `number` and `device` are the sender's, `recipient` the other phone number; `text` is the text or the caption; `secret` is
    the `messageSecret` in hexadecimal; `answer` says what the server did with it; `received_at` is in seconds since 1970.
    """

    number: str
    device: int
    recipient: str
    id: str
    type: str
    text: str
    media: SentMedia | None
    secret: str
    answer: str
    received_at: float


@dataclass(slots=True)
class Record:
    """The transmissions, and the other stanzas that devices sent: receipts, typing, presence."""

    transmissions: list[Transmission] = field(default_factory=list)
    stanzas: list[dict[str, str]] = field(default_factory=list)
