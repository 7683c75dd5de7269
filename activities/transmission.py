"""Transmission of one claimed message, and its settlement where nobody knows how it ended."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from siaran.attempt_keys import attempt_key
from siaran.clock import Clock
from siaran.db import SessionMaker
from siaran.errors import NotFound
from siaran.gateway.interface import (
    Attempt,
    AttemptAnswer,
    Body,
    MediaFile,
    MessageType,
    NotConnected,
    RateLimited,
    Rejected,
    Restricted,
    Transport,
)
from siaran.ledger.claims import Claim
from siaran.ledger.records import Record
from siaran.ledger.settlement import OUTCOME_UNKNOWN, OpenClaim, message_status, note_whatsapp_id
from siaran.media import media_content, referenced_id
from siaran.message_contents import is_content
from siaran.models import AttemptOutcome, MessageStatus

log = structlog.get_logger()

LOOK_FOR_RECEIPT = timedelta(milliseconds=500)
"""How often a settlement looks whether a receipt has come."""

ARRIVED = {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ}
"""What only evidence makes of a message."""

REASONS = {
    "not_on_whatsapp": "This number has no WhatsApp account.",
    "rate_limited_429": "WhatsApp asked this device to slow down.",
    "media_missing": "The file of this message has been deleted.",
    "restricted_463": "WhatsApp does not let this device open new chats for now.",
}


@dataclass(frozen=True, slots=True)
class Transmitter:
    """Hands claimed messages to the transport and writes down how that ended; `record` waits for the commit."""

    transport: Transport
    sessions: SessionMaker
    record: Callable[[Record], Awaitable[None]]
    clock: Clock
    secret: bytes
    receipt_wait: timedelta
    store_chats: bool = False

    async def transmit(self, claim: Claim, *, gap: timedelta) -> tuple[Record, Exception | None]:
        """Send one claimed message and record its end, with the error that says why the lane should stop, if one does.

        Only a decoded rejection, or the word of the transport that it handed nothing over, closes an attempt that raised;
        whatever else goes wrong leaves the outcome open, and the session store is asked.
        """
        began_at = self.clock()
        base = replace(record_of(claim, began_at, began_at + gap), began_at=began_at)
        key = attempt_key(self.secret, claim.message_id, claim.attempt)
        if claim.message_type not in set(MessageType):
            return await self._end(_impossible(base, claim.message_type), None)
        if claim.message_type == MessageType.TEXT and not claim.content.strip():
            return await self._end(_blank(base), None)
        if not is_content(claim.message_type, claim.content):
            return await self._end(_unreadable(base), None)
        body = Body(MessageType(claim.message_type), claim.content, claim.media_url, self._media_reader(claim))
        try:
            result = await self.transport.send(claim.device_id, claim.phone, body, key)
        except NotConnected as error:
            return await self._end(_again(base, AttemptOutcome.NOT_ATTEMPTED, error.code), error)
        except (RateLimited, Restricted) as error:
            return await self._end(_again(base, AttemptOutcome.REJECTED, error.code), error)
        except Rejected as error:
            return await self._end(_rejected(base, error), None)
        except Exception as error:  # noqa: BLE001 -- whatever it was, the message may have gone out
            log.info("outcome_open", message=claim.message_id, attempt=claim.attempt, error=type(error).__name__)
            return await self.settle(claim, base), error
        return await self._end(replace(base, at=result.sent_at, whatsapp_id=result.whatsapp_id), None)

    async def settle(self, claim: Claim | OpenClaim, base: Record) -> Record:
        """Find out how an open attempt ended and record it; never transmits. May wait for a receipt for `receipt_wait`."""
        key = attempt_key(self.secret, claim.message_id, claim.attempt)
        found = await self._ask(claim, key)
        if found.answer is AttemptAnswer.NOT_ATTEMPTED:
            record = _again(base, AttemptOutcome.NOT_ATTEMPTED, None)
        elif found.whatsapp_id is not None and await self._has_receipt(claim, found.whatsapp_id):
            record = replace(base, whatsapp_id=found.whatsapp_id)
        else:
            record = _unknown(base, found.whatsapp_id)
        return (await self._end(record, None))[0]

    def _media_reader(self, claim: Claim) -> Callable[[], Awaitable[MediaFile]] | None:
        """Reads the file of a message when the transport asks for it: most have uploaded it already."""
        if claim.media_url is None or referenced_id(claim.media_url) is None:
            return None
        return partial(self._read_media, claim.user_id, claim.media_url)

    async def _read_media(self, user_id: UUID, reference: str) -> MediaFile:
        try:
            async with self.sessions() as session:
                return await media_content(session, user_id, reference)
        except NotFound as error:
            raise Rejected("media_missing", retryable=False) from error

    async def _ask(self, claim: Claim | OpenClaim, key: bytes) -> Attempt:
        while True:
            try:
                return await self.transport.find_attempt(claim.device_id, claim.phone, key, claim.link_generation)
            except Exception as error:  # noqa: BLE001 -- the store is away: no answer is no reason to guess
                log.warning("session_store_away", device=str(claim.device_id), error=type(error).__name__)
                await asyncio.sleep(LOOK_FOR_RECEIPT.total_seconds())

    async def _has_receipt(self, claim: Claim | OpenClaim, whatsapp_id: str) -> bool:
        """Whether an acknowledgement or receipt of this id arrives in time; it raises the message by itself."""
        give_up_at = self.clock() + self.receipt_wait
        noted = False
        while True:
            try:
                async with self.sessions.begin() as session:
                    if not noted:
                        await note_whatsapp_id(session, claim, whatsapp_id, store_chats=self.store_chats)
                    status = await message_status(session, claim.user_id, claim.message_id)
                noted = True
            except (SQLAlchemyError, OSError) as error:
                log.warning("settlement_waits_for_database", error=type(error).__name__)
            else:
                if status is not MessageStatus.CLAIMED:
                    # Swept or retried meanwhile, it has had no receipt either.
                    return status in ARRIVED
            left = give_up_at - self.clock()
            if left <= timedelta(0):
                return False
            await asyncio.sleep(min(left, LOOK_FOR_RECEIPT).total_seconds())

    async def _end(self, record: Record, error: Exception | None) -> tuple[Record, Exception | None]:
        await self.record(record)
        return record, error


def record_of(claim: Claim | OpenClaim, at: datetime, next_send_at: datetime) -> Record:
    """The record of an attempt as it reads when it was sent."""
    return Record(
        message_id=claim.message_id,
        attempt=claim.attempt,
        device_id=claim.device_id,
        user_id=claim.user_id,
        campaign_id=claim.campaign_id,
        sequence_id=claim.sequence_id,
        source=claim.source,
        status=MessageStatus.SENT,
        outcome=AttemptOutcome.SENT,
        at=at,
        next_send_at=next_send_at,
    )


def _again(base: Record, outcome: AttemptOutcome, code: str | None) -> Record:
    """Nothing was delivered, and it is no fault of the message: it is to be tried again."""
    return replace(base, status=MessageStatus.PENDING, outcome=outcome, error_code=code)


def _rejected(base: Record, error: Rejected) -> Record:
    return replace(
        base,
        status=MessageStatus.FAILED,
        outcome=AttemptOutcome.REJECTED,
        error_code=error.code,
        error_message=REASONS.get(error.code, f"WhatsApp refused this message ({error.code})."),
        is_retryable=error.retryable,
    )


def _impossible(base: Record, message_type: str) -> Record:
    return replace(
        base,
        status=MessageStatus.FAILED,
        outcome=AttemptOutcome.NOT_ATTEMPTED,
        error_code="unsupported_type",
        error_message=f"Messages of type {message_type} cannot be sent.",
    )


def _unreadable(base: Record) -> Record:
    return replace(
        base,
        status=MessageStatus.FAILED,
        outcome=AttemptOutcome.NOT_ATTEMPTED,
        error_code="unsupported_content",
        error_message="What this message carries cannot be read.",
    )


def _blank(base: Record) -> Record:
    return replace(
        base,
        status=MessageStatus.FAILED,
        outcome=AttemptOutcome.NOT_ATTEMPTED,
        error_code="empty_text",
        error_message="The fields of this contact leave nothing of the message.",
        is_retryable=True,
    )


def _unknown(base: Record, whatsapp_id: str | None) -> Record:
    return replace(
        base,
        status=MessageStatus.UNKNOWN,
        outcome=AttemptOutcome.UNKNOWN,
        whatsapp_id=whatsapp_id,
        error_code="outcome_unknown",
        error_message=OUTCOME_UNKNOWN,
    )
