"""Broadcasts: one message to a list of numbers, and how far it has got."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, BeforeValidator, Field

from api.auth import SenderDep, UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from api.sending import IdempotencyKey
from siaran.broadcasts import (
    MOST_PHONES,
    Judged,
    NewBroadcast,
    Verdict,
    cancel_broadcast,
    check_broadcast,
    count_messages,
    get_broadcast,
    is_key_taken,
    list_broadcasts,
    list_messages,
    queue_broadcast,
)
from siaran.errors import Invalid
from siaran.lanes import wake_lanes
from siaran.media import reference_to, referenced_id
from siaran.media_fetch import keep_from_url
from siaran.models import Broadcast, BroadcastMessage, MessageStatus
from siaran.one_off import MAX_TEXT
from siaran.public_addresses import MAX_URL, is_web_url

router = APIRouter(tags=["sending"])

BroadcastId = Annotated[UUID, Path(description="Id of the broadcast.")]


def _nothing_for_empty(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


class BroadcastOrder(BaseModel):
    """A message and whom it goes to."""

    phones: list[Annotated[str, Field(max_length=64)]] = Field(
        max_length=MOST_PHONES,
        description=f"1 to {MOST_PHONES:,} numbers in any form.",
        examples=[["012-345 6789", "+60198765432"]],
    )
    message: str = Field(
        "",
        max_length=MAX_TEXT,
        description="Text, or caption of the file; fields and choices as in campaigns.",
        examples=["Hi {{name|friend}}, we are open again."],
    )
    image_url: Annotated[str | None, BeforeValidator(_nothing_for_empty)] = Field(
        None,
        max_length=MAX_URL,
        description="Image, video or document to send: where to fetch it from, once, or the `/api/media/…` of a file of yours.",
    )
    device_id: Annotated[UUID | None, BeforeValidator(_nothing_for_empty)] = Field(
        None, description="The device to send from, never another; may be left out while only one is linked."
    )


class VerdictView(BaseModel):
    """What becomes of one number of the list."""

    given: str = Field(description="As it was given.")
    phone: str | None = Field(description="In international form; `null` if it is no number.")
    verdict: Verdict
    reason: str | None = Field(description="Why it gets nothing.")

    @classmethod
    def of(cls, judged: Judged) -> "VerdictView":
        """One line of the list."""
        return cls(given=judged.given, phone=judged.phone, verdict=judged.verdict, reason=judged.reason)


class BroadcastView(BaseModel):
    """A broadcast."""

    id: UUID
    device_id: UUID
    message_type: str
    message: str
    image_url: str | None
    messages: int = Field(description="How many numbers it goes to.")
    created_at: datetime
    cancelled_at: datetime | None

    @classmethod
    def of(cls, row: Broadcast) -> "BroadcastView":
        """A broadcast as its row has it."""
        return cls(
            id=row.id,
            device_id=row.device_id,
            message_type=row.message_type,
            message=row.content,
            image_url=row.media_url,
            messages=row.messages,
            created_at=row.created_at,
            cancelled_at=row.cancelled_at,
        )


class QueuedBroadcast(BroadcastView):
    """A broadcast that has just been queued."""

    verdicts: list[VerdictView] = Field(description="One for each number, in the order of the list.")


class BroadcastProgress(BroadcastView):
    """A broadcast and how far it has got."""

    counts: dict[str, int] = Field(description="Messages by state, as in campaigns.", examples=[{"sent": 3, "pending": 1}])
    is_finished: bool = Field(description="Whether nothing more will be sent.")


class BroadcastMessageView(BaseModel):
    """One message of a broadcast."""

    message_id: int
    phone: str
    name: str
    status: MessageStatus
    error_code: str | None
    error_message: str | None
    sent_at: datetime | None

    @classmethod
    def of(cls, row: BroadcastMessage) -> "BroadcastMessageView":
        """A row of the ledger."""
        return cls(
            message_id=row.id,
            phone=row.recipient_phone,
            name=row.recipient_name,
            status=row.status,
            error_code=row.error_code,
            error_message=row.error_message,
            sent_at=row.sent_at,
        )


@router.post("/send/broadcast", status_code=201)
async def send_broadcast(
    order: BroadcastOrder, user: SenderDep, context: ContextDep, idempotency_key: IdempotencyKey = None
) -> Envelope[QueuedBroadcast]:
    """Queue one message to everyone on a list who may get it, with a verdict for each number.

    It takes turns with the device's campaigns, and keeps to sending hours, caps, opt-outs and the limit per contact. Refused
    when nobody on the list may get it.
    """
    wanted = NewBroadcast(
        phones=tuple(order.phones),
        text=order.message,
        media_url=order.image_url.strip() if order.image_url else None,
        device_id=order.device_id,
        key=idempotency_key,
    )
    async with context.sessions() as session:
        if not await is_key_taken(session, user.id, wanted.key):
            await check_broadcast(session, user.id, wanted, country=user.country, now=context.clock())
    kept_url = await _keep(context, user.id, wanted.media_url)
    async with context.sessions.begin() as session:
        row, judged = await queue_broadcast(
            session, user.id, wanted, country=user.country, now=context.clock(), kept_url=kept_url
        )
    await wake_lanes(context.sessions, context.temporal, context.redis, [row.device_id])
    view = QueuedBroadcast(**BroadcastView.of(row).model_dump(), verdicts=[VerdictView.of(line) for line in judged])
    return success(view, f"{row.messages:,} messages are queued")


async def _keep(context: Context, user_id: UUID, url: str | None) -> str | None:
    """The reference of a file that was fetched from its URL."""
    if url is None or referenced_id(url) is not None:
        return None
    if not is_web_url(url):
        reason = "must begin with https:// or http:// and name a host, or be the /api/media/… of a file of yours"
        raise Invalid.field("image_url", reason)
    allow_private = context.settings.allow_private_targets
    media = await keep_from_url(
        context.sessions, user_id, url, field="image_url", allow_private=allow_private, clock=context.clock
    )
    return reference_to(media.id)


@router.get("/api/broadcasts")
async def read_broadcasts(user: UserDep, context: ContextDep, paging: PagingDep) -> ListEnvelope[BroadcastView]:
    """Your broadcasts, newest first."""
    async with context.sessions() as session:
        rows = await list_broadcasts(session, user.id, after=paging.after(tuple[datetime, UUID]), limit=paging.fetch)
    page, next_cursor = paging.cut(rows, lambda row: (row.created_at, row.id))
    return listed([BroadcastView.of(row) for row in page], next_cursor, "Broadcasts")


@router.get("/api/broadcasts/{broadcast_id}")
async def read_broadcast(broadcast_id: BroadcastId, user: UserDep, context: ContextDep) -> Envelope[BroadcastProgress]:
    """A broadcast and how far it has got."""
    async with context.sessions() as session:
        row = await get_broadcast(session, user.id, broadcast_id)
        return success(_progress(row, dict(await count_messages(session, row))), "Broadcast")


@router.get("/api/broadcasts/{broadcast_id}/messages")
async def read_broadcast_messages(
    *,
    broadcast_id: BroadcastId,
    user: UserDep,
    context: ContextDep,
    paging: PagingDep,
    status: Annotated[MessageStatus | None, Query(description="Only messages in this state.")] = None,
) -> ListEnvelope[BroadcastMessageView]:
    """Its messages, in the order of the list."""
    (after_id,) = paging.after(tuple[int]) or (0,)
    async with context.sessions() as session:
        row = await get_broadcast(session, user.id, broadcast_id)
        rows = await list_messages(session, row, after_id=after_id, limit=paging.fetch, status=status)
    page, next_cursor = paging.cut(rows, lambda message: (message.id,))
    return listed([BroadcastMessageView.of(message) for message in page], next_cursor, "Messages")


@router.post("/api/broadcasts/{broadcast_id}/cancel")
async def stop_broadcast(broadcast_id: BroadcastId, user: UserDep, context: ContextDep) -> Envelope[BroadcastProgress]:
    """Cancel what is not sent yet."""
    async with context.sessions.begin() as session:
        row = await cancel_broadcast(session, user.id, broadcast_id, context.clock())
        return success(_progress(row, dict(await count_messages(session, row))), "The rest of the broadcast is cancelled")


def _progress(row: Broadcast, counts: dict[MessageStatus, int]) -> BroadcastProgress:
    is_finished = not counts.keys() & {MessageStatus.PENDING, MessageStatus.CLAIMED}
    by_name = {status.value: number for status, number in counts.items()}
    return BroadcastProgress(**BroadcastView.of(row).model_dump(), counts=by_name, is_finished=is_finished)
