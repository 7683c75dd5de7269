"""Single messages: a test send of a campaign, and what became of a message."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, BeforeValidator, Field

from api.auth import SenderDep, UserDep
from api.campaigns import CampaignId, MessageId
from api.context import ContextDep
from api.envelope import Envelope, success
from api.sending import IdempotencyKey, queue_at_once
from siaran.campaigns import get_campaign
from siaran.message_contents import describe_content
from siaran.models import MessageStatus
from siaran.one_off import MessageNow, OneOff, get_message, wait_for_end

router = APIRouter(tags=["messages"])


class TestSend(BaseModel):
    """Whom to send a test to."""

    phone: str = Field(max_length=64, description="One number, in any form.", examples=["012-345 6789"])
    device_id: Annotated[
        UUID | None, BeforeValidator(lambda value: None if isinstance(value, str) and not value.strip() else value)
    ] = Field(None, description="The device to send from; left out, the one that is free first.")
    wait_seconds: float = Field(8, ge=0, le=20, description="How long to wait for the outcome before answering 202.")


class MessageView(BaseModel):
    """A message and what became of it."""

    message_id: int
    campaign_id: int | None
    sequence_id: UUID | None
    device_id: UUID
    phone: str
    status: MessageStatus
    message_type: str
    text: str | None = Field(description="What was sent, or will be; `null` while it is not decided.")
    media_url: str | None
    error_code: str | None
    error_message: str | None
    whatsapp_id: str | None = Field(description="WhatsApp's own id of it, once it was sent.")
    attempts: int = Field(description="How often it was tried.")
    scheduled_at: datetime
    sent_at: datetime | None
    delivered_at: datetime | None
    read_at: datetime | None

    @classmethod
    def of(cls, now: MessageNow) -> "MessageView":
        """A message with its last attempt."""
        row, attempt = now.message, now.attempt
        content = attempt.content if attempt else row.content
        return cls(
            message_id=row.id,
            campaign_id=row.campaign_id,
            sequence_id=row.sequence_id,
            device_id=row.device_id,
            phone=row.recipient_phone,
            status=row.status,
            message_type=row.message_type,
            text=None if content is None else describe_content(row.message_type, content),
            media_url=attempt.media_url if attempt else row.media_url,
            error_code=row.error_code,
            error_message=row.error_message,
            whatsapp_id=attempt.whatsapp_id if attempt else None,
            attempts=row.attempt,
            scheduled_at=row.scheduled_at,
            sent_at=row.sent_at,
            delivered_at=row.delivered_at,
            read_at=row.read_at,
        )


@router.post("/api/campaigns/{campaign_id}/test", responses={202: {"model": Envelope[MessageView]}})
async def send_test(
    *,
    campaign_id: CampaignId,
    body: TestSend,
    user: SenderDep,
    context: ContextDep,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Envelope[MessageView]:
    """Send the campaign's message to one number, ahead of the rest; 202 when its outcome is not known in time.

    The fields are those of the lead with that number; who is no lead is called as you are.
    """
    async with context.sessions.begin() as session:
        campaign = await get_campaign(session, user.id, campaign_id)
        wanted = OneOff(
            phone=body.phone,
            text=campaign.message,
            message_type=campaign.message_type,
            media_url=campaign.image_url,
            device_id=body.device_id,
            is_template=True,
            key=idempotency_key,
        )
    message = await queue_at_once(context, user, wanted)
    found = await wait_for_end(context.sessions, user.id, message.id, seconds=body.wait_seconds)
    if not found.has_ended:
        response.status_code = 202
        return success(MessageView.of(found), "The test message is queued")
    return success(MessageView.of(found), f"The test message is {found.message.status}")


@router.get("/api/messages/{message_id}")
async def read_message(message_id: MessageId, user: UserDep, context: ContextDep) -> Envelope[MessageView]:
    """One of your messages: of a campaign, a sequence, or sent on its own."""
    async with context.sessions.begin() as session:
        found = await get_message(session, user.id, message_id)
    return success(MessageView.of(found), "Message")
