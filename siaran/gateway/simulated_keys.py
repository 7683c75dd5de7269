"""Where the simulated network keeps what in its Valkey."""

from uuid import UUID

PREFIX = "network:"
CONTROL = PREFIX + "control"  # the channel on which running transports hear of changes

CONFIG = PREFIX + "config"  # hash: the fields of NetworkConfig as JSON, and `revision`
COMPANIONS = PREFIX + "companions"  # hash: phone -> how many devices were linked to it so far
ATTEMPTS = PREFIX + "attempts"  # hash: phone -> how many sends were attempted to it so far
TRANSMISSIONS = PREFIX + "transmissions"  # stream: the record of everything that was accepted
REJECTIONS = PREFIX + "rejections"  # stream: what was refused, and why


def device(device_id: UUID) -> str:
    """Hash of lasting facts: linked, link_generation, phone, jid, dropped_until, banned_until, restricted."""
    return f"{PREFIX}device:{device_id}"


def connections(device_id: UUID) -> str:
    """Set of the tokens of the device's live connections."""
    return f"{PREFIX}connections:{device_id}"


def store(device_id: UUID) -> str:
    """Hash, the device's session store: `generation`, and idempotency key (hex) -> WhatsApp id."""
    return f"{PREFIX}store:{device_id}"


def chats(device_id: UUID) -> str:
    """Set of the phones that the device has written to or heard from."""
    return f"{PREFIX}chats:{device_id}"


def inbox(device_id: UUID) -> str:
    """Hash of what the device is still to receive: see `simulated_inbox.Entry`."""
    return f"{PREFIX}inbox:{device_id}"


def taken(device_id: UUID) -> str:
    """Hash: field of an inbox entry -> the token of the connection that has been given it and has not handled it yet."""
    return f"{PREFIX}taken:{device_id}"


def link(token: str) -> str:
    """Hash of one linking that waits to be scanned: device, phone (empty: any), expires_at (ms)."""
    return f"{PREFIX}link:{token}"


def pending_link(device_id: UUID) -> str:
    """The token of the linking that the device waits for."""
    return f"{PREFIX}pending_link:{device_id}"
