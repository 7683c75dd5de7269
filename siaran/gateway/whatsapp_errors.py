"""What the WhatsApp library's error texts mean: it has no other errors than texts.

Whatever is not known to have happened before the transmission leaves its outcome open.
"""

import re

from siaran.gateway.interface import (
    LoggedOut,
    NotConnected,
    OutcomeUnknown,
    RateLimited,
    Rejected,
    Restricted,
    TransportError,
)

NO_LID = "no LID found for"
"""WhatsApp named no account for the number: there is none, or it would not say."""

_REFUSED = re.compile(r"server returned error (\d+)$")
_UNLINKED = re.compile(r"store doesn't contain a device JID|use of deleted device", re.IGNORECASE)
_RATE_LIMITED = re.compile(r"status 429\b|rate-overlimit")
_STATUS = re.compile(r"status code (\d+)")

_NOT_TRANSMITTED = (
    "client is nil",
    "failed to get LID for PN",
    "failed to get user info for",
    "failed to get device list",
    "failed to marshal",
    "failed to fetch LID mappings",
    "failed to prefetch sessions",
    "failed to save cached sessions",
    "failed to send message node: websocket not connected",
    "failed to send message node: frame socket is closed",
    "failed to send message node: failed to marshal",
)
"""How errors begin that come before anything is written to the connection."""

_TRY_AGAIN = {408, 421, 479}
"""Refusals that pass: 479 is a stale list of the recipient's devices, which is read anew afterwards."""

_BROKEN = re.compile(
    r"\bhmac\b|hash of|file too short|no url present|unknown media type|didn't find any attachments"
    r"|does not start with slash|failed to decrypt|length does not match"
)
"""What is wrong with a file, or with what its sender says of it, and stays so."""

GONE = {"403", "404", "410"}
"""HTTP answers for files that WhatsApp keeps no more."""


def send_error(said: str, *, is_repeated: bool = False) -> TransportError:
    """The error for what the library said about a send that failed, perhaps of a message that it had transmitted twice.

    `NO_LID` is not among them: that takes a further question.
    """
    if refused := _REFUSED.search(said):
        # The library repeats a message on a new connection. What is refused then may have been taken the first time.
        return OutcomeUnknown(said) if is_repeated else refusal(int(refused[1]), said)
    if _UNLINKED.search(said):
        return LoggedOut(said)
    if said.startswith(_NOT_TRANSMITTED):
        return RateLimited(detail=said) if _RATE_LIMITED.search(said) else NotConnected(said)
    if "frame too large" in said:
        return Rejected("message_too_large", retryable=False, detail=said)
    # Also a bare "websocket not connected": it is said when a message that was transmitted could not be repeated.
    return OutcomeUnknown(said)


def refusal(code: int, said: str) -> Rejected:
    """The error for an acknowledgement that says no."""
    if code == 463:
        return Restricted(said)
    if code == 429:
        return RateLimited(detail=said)
    return Rejected(f"refused_{code}", retryable=code >= 500 or code in _TRY_AGAIN, detail=said)


def query_error(said: str) -> TransportError:
    """The error for a question that was not answered: nothing but a log-out makes asking again pointless."""
    return LoggedOut(said) if _UNLINKED.search(said) else NotConnected(said)


def upload_error(said: str) -> TransportError:
    """The error for a file that could not be uploaded: nothing was transmitted."""
    if _UNLINKED.search(said):
        return LoggedOut(said)
    if _RATE_LIMITED.search(said) or _status(said) == "429":
        return RateLimited(detail=said)
    if _status(said) is not None:
        return Rejected("upload_failed", retryable=True, detail=said)
    return NotConnected(said)


def download_error(said: str) -> TransportError:
    """The error for a file that could not be downloaded."""
    if _status(said) in GONE:
        return Rejected("media_gone", retryable=False, detail=said)
    if _BROKEN.search(said):
        return Rejected("media_broken", retryable=False, detail=said)
    if _status(said) is not None:
        return Rejected("media_unavailable", retryable=True, detail=said)
    return query_error(said)


def is_without_picture(said: str) -> bool:
    """Whether a question for a picture was answered by there being none, or none to be seen."""
    return "does not have a profile picture" in said or "hidden their profile picture" in said


def _status(said: str) -> str | None:
    match = _STATUS.search(said)
    return match[1] if match else None
