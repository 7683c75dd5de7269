"""What webhooks are told: one function for each event, called in the transaction in which it happened.

Each asks first who wants to know, and makes nothing where nobody does. All return at once where nothing has happened.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Campaign, Device, DeviceStatus
from siaran.webhook_events import Announcement, WebhookEvent, announce, find_subscribers, moment


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message that a contact has sent to a device; `kind` is `text` or what kind of file it carries."""

    user_id: UUID
    device_id: UUID
    phone: str
    text: str
    at: datetime
    whatsapp_id: str
    name: str = ""
    kind: str = "text"


async def announce_messages(session: AsyncSession, messages: Sequence[NewMessage], defaults: Sequence[str]) -> None:
    """Tell of messages; `defaults` are told of those of users who have no webhook for them."""
    if not messages:
        return
    users = {message.user_id for message in messages}
    known = await find_subscribers(session, users, [WebhookEvent.MESSAGE], defaults=defaults)
    news = [
        Announcement(
            message.user_id,
            WebhookEvent.MESSAGE,
            {
                "deviceId": str(message.device_id),
                "from": message.phone,
                "message": message.text,
                "timestamp": moment(message.at),
                "id": message.whatsapp_id,
                "name": message.name,
                "type": message.kind,
            },
        )
        for message in messages
        if known.wants(message.user_id, WebhookEvent.MESSAGE)
    ]
    await announce(session, news, known=known)


async def announce_receipts(session: AsyncSession, raised: Sequence[Row[Any]]) -> None:
    """Tell of messages that have got further; rows of `user_id, device_id, message_id, whatsapp_id, after, at`."""
    if not raised:
        return
    known = await find_subscribers(session, {row.user_id for row in raised}, [WebhookEvent.RECEIPT])
    news = [
        Announcement(
            row.user_id,
            WebhookEvent.RECEIPT,
            {
                "deviceId": str(row.device_id),
                "messageId": row.message_id,
                "whatsappId": row.whatsapp_id,
                "status": row.after,
                "timestamp": moment(row.at),
            },
        )
        for row in raised
        if known.wants(row.user_id, WebhookEvent.RECEIPT)
    ]
    await announce(session, news, known=known)


async def announce_failures(session: AsyncSession, failed: Sequence[Row[Any]]) -> None:
    """Tell of messages that could not be sent.

    Rows of `user_id, device_id, message_id, campaign_id, sequence_id, phone, error_code, error_message, is_retryable, at`.
    """
    if not failed:
        return
    known = await find_subscribers(session, {row.user_id for row in failed}, [WebhookEvent.MESSAGE_FAILED])
    news = [
        Announcement(
            row.user_id,
            WebhookEvent.MESSAGE_FAILED,
            {
                "deviceId": str(row.device_id),
                "messageId": row.message_id,
                "campaignId": row.campaign_id,
                "sequenceId": None if row.sequence_id is None else str(row.sequence_id),
                "phone": row.phone,
                "code": row.error_code,
                "reason": row.error_message,
                "retryable": row.is_retryable,
                "timestamp": moment(row.at),
            },
        )
        for row in failed
        if known.wants(row.user_id, WebhookEvent.MESSAGE_FAILED)
    ]
    await announce(session, news, known=known)


async def announce_devices(session: AsyncSession, changed: Iterable[Row[Any]], times: Mapping[UUID, datetime]) -> None:
    """Tell of devices that went online or away: rows of `user_id, id, before, after`, and when each has changed."""
    news = [
        Announcement(
            row.user_id,
            WebhookEvent.DEVICE_STATUS,
            {
                "deviceId": str(row.id),
                "status": str(row.after),
                "before": str(row.before),
                "timestamp": moment(times[row.id]),
            },
        )
        for row in changed
        if row.after not in {row.before, DeviceStatus.CONNECTING}
    ]
    await announce(session, news)


async def announce_end_of_link(session: AsyncSession, device: Device, before: DeviceStatus, now: datetime) -> None:
    """Tell that a device was logged out, or deleted, by its user."""
    data = {
        "deviceId": str(device.id),
        "status": DeviceStatus.LOGGED_OUT.value,
        "before": DeviceStatus(before).value,
        "timestamp": moment(now),
    }
    if before != DeviceStatus.LOGGED_OUT:
        await announce(session, [Announcement(device.user_id, WebhookEvent.DEVICE_STATUS, data)])


async def announce_opt_outs(
    session: AsyncSession,
    opted_out: Iterable[tuple[UUID, str]],
    now: datetime,
    *,
    words: Mapping[tuple[UUID, str], str] | None = None,
) -> None:
    """Tell of contacts (user, phone) who opted out; `words` are what those replied who asked for it themselves."""
    news = [
        Announcement(
            user_id,
            WebhookEvent.LEAD_OPTED_OUT,
            {
                "phone": phone,
                "word": (words or {}).get((user_id, phone)),
                "source": "manual" if words is None else "reply",
                "timestamp": moment(now),
            },
        )
        for user_id, phone in opted_out
    ]
    await announce(session, news)


async def announce_campaign(session: AsyncSession, campaign: Campaign, counts: Mapping[str, int], now: datetime) -> None:
    """Tell that a campaign has ended."""
    data = {
        "campaignId": campaign.id,
        "title": campaign.title,
        "status": campaign.status.value,
        "counts": dict(counts),
        "timestamp": moment(now),
    }
    await announce(session, [Announcement(campaign.user_id, WebhookEvent.CAMPAIGN_COMPLETED, data)])
