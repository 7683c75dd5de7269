"""One message on its way to WhatsApp, and what is known of it when that fails."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from siaran.clock import Clock
from siaran.gateway.interface import (
    MEDIA_TYPES,
    Banned,
    Body,
    LoggedOut,
    NotConnected,
    NotOnWhatsApp,
    OutcomeUnknown,
    Rejected,
    SendResult,
    TransportError,
)
from siaran.gateway.whatsapp_client import Client, Sending
from siaran.gateway.whatsapp_errors import NO_LID, send_error
from siaran.gateway.whatsapp_library import load_library
from siaran.gateway.whatsapp_messages import build_message
from siaran.gateway.whatsapp_queries import check_numbers, jid_of
from siaran.gateway.whatsapp_uploads import Uploads

SEND_SECONDS = 80.0
"""The library itself gives up after 75 s, but not when it repeats a message on a new connection: then it can wait for ever."""


async def transmit(client: Client, uploads: Uploads, to: str, body: Body, key: bytes, *, clock: Clock) -> SendResult:
    """Send one message; see `Transport.send`. Cancelled, it goes on sending, and the device stays busy until that has ended."""
    with _before_transmission():
        _check_free(client)
        uploaded = await uploads.get(client, body) if body.type in MEDIA_TYPES else None
        message = build_message(body, uploaded, key)
        _check_free(client)
    recipient, changes = jid_of(to), client.changes
    task = client.begin(lambda library: library.send_message(recipient, message))
    client.sending = Sending(key, clock())
    task.add_done_callback(lambda _: _set_free(client))
    await asyncio.wait({task}, timeout=SEND_SECONDS)
    if not task.done():
        raise OutcomeUnknown("the library did not say in time how it ended")
    try:
        response = task.result()
    except load_library().send_error as error:
        failure = await _explain(client, to, str(error), is_repeated=client.changes != changes)
        if uploaded is not None and type(failure) is Rejected:
            uploads.forget(client, body)
            failure = Rejected(failure.code, retryable=True, detail=failure.detail)
        raise failure from error
    except asyncio.CancelledError:
        raise
    except Exception as error:
        raise OutcomeUnknown(f"{type(error).__name__}: {error}") from error
    sent_at = datetime.fromtimestamp(response.Timestamp, UTC) if response.Timestamp > 0 else clock()
    return SendResult(str(response.ID), sent_at)


@contextmanager
def _before_transmission() -> Iterator[None]:
    """Say that nothing was transmitted: a log-out or ban would leave that open."""
    try:
        yield
    except (LoggedOut, Banned) as error:
        raise NotConnected(error.detail) from error


def _check_free(client: Client) -> None:
    client.check_online()
    if client.sending is not None:
        raise NotConnected("busy")


def _set_free(client: Client) -> None:
    client.sending = None


async def _explain(client: Client, to: str, said: str, *, is_repeated: bool) -> TransportError:
    """The error for what the library said; a number without an address is asked about once more."""
    if NO_LID not in said:
        return send_error(said, is_repeated=is_repeated)
    try:
        known = await check_numbers(client, [to])
    except TransportError as error:
        return NotConnected(error.detail)
    if to not in known:
        return NotConnected(said)
    return Rejected("no_address", retryable=True, detail=said) if known[to] else NotOnWhatsApp(said)
