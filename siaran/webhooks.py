"""Webhooks: the addresses that a user wants told of events, and the log of what was delivered to them."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Boolean, ColumnElement, func, literal_column, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.contracts import WebhookInput
from siaran.errors import Conflict, Invalid
from siaran.models import DeliveryStatus, Webhook, WebhookDelivery
from siaran.public_addresses import ForbiddenTarget, UnknownHost, find_target, is_web_url
from siaran.tenancy import get_owned, select_owned
from siaran.webhook_events import PING, WebhookEvent, body_of, moment, note_told
from siaran.webhook_outbox import try_all_again

MOST_WEBHOOKS = 10
"""Per user; deleted ones do not count."""

LOOKUP_SECONDS = 5.0

AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
"""When a delivery that somebody waits for falls due: before all others."""

RESENT = "resend_of"
"""In `details` of a delivery: the one that it repeats."""

_LOCK_USER = text("SELECT FROM users WHERE id = :user FOR NO KEY UPDATE")


@dataclass(frozen=True, slots=True)
class WebhookChanges:
    """What to change of a webhook; None leaves it as it is. The address has been checked by `check_address`."""

    url: str | None = None
    events: Sequence[WebhookEvent] | None = None
    is_active: bool | None = None


async def check_address(url: str, *, allow_private: bool) -> None:
    """Raise `Invalid` for `url` unless events may be sent there; a host that cannot be found now is left to the deliveries."""
    if not is_web_url(url):
        raise Invalid.field("url", "is no http:// or https:// address without a password, of up to 2,048 characters")
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(LOOKUP_SECONDS):
            await find_target(parts.hostname or "", port, allow_private=allow_private)
    except (UnknownHost, TimeoutError):
        return
    except ForbiddenTarget as error:
        raise Invalid.field("url", error.detail) from error


def new_secret() -> str:
    """What signs a webhook's deliveries."""
    return f"whsec_{secrets.token_urlsafe(32)}"


async def add_webhook(session: AsyncSession, user_id: UUID, changes: WebhookChanges) -> Webhook:
    """A new webhook, which hears of everything from its commit on; raises `Conflict` when there are too many."""
    await session.execute(_LOCK_USER, {"user": user_id})
    count = select(func.count()).select_from(Webhook).where(Webhook.user_id == user_id, Webhook.deleted_at.is_(None))
    if (await session.execute(count)).scalar_one() >= MOST_WEBHOOKS:
        raise Conflict(f"you have {MOST_WEBHOOKS} webhooks already; delete one first")
    webhook = Webhook(user_id=user_id, secret=new_secret())
    _apply(webhook, changes)
    session.add(webhook)
    await session.flush()
    note(session, user_id, "webhook.added", f"webhook:{webhook.id}")
    await session.refresh(webhook)
    return webhook


async def get_webhook(session: AsyncSession, user_id: UUID, webhook_id: UUID, *, lock: bool = False) -> Webhook:
    """A user's webhook; raises `NotFound` for anyone else's and for a deleted one."""
    return await get_owned(session, Webhook, user_id, Webhook.id == webhook_id, Webhook.deleted_at.is_(None), lock=lock)


async def list_webhooks(
    session: AsyncSession, user_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None = None
) -> Sequence[Webhook]:
    """A user's webhooks, oldest first, beginning behind the one of `after`."""
    query = select_owned(Webhook, user_id).where(Webhook.deleted_at.is_(None))
    if after is not None:
        query = query.where(tuple_(Webhook.created_at, Webhook.id) > after)
    return (await session.scalars(query.order_by(Webhook.created_at, Webhook.id).limit(limit))).all()


async def change_webhook(session: AsyncSession, user_id: UUID, webhook_id: UUID, changes: WebhookChanges) -> Webhook:
    """Change what `changes` names. What is pending goes to a new address at once; switched off, nothing of it is sent."""
    webhook = await get_webhook(session, user_id, webhook_id, lock=True)
    before = webhook.url
    _apply(webhook, changes)
    await session.flush()
    if webhook.url != before:
        await try_all_again(session, user_id, str(webhook.id))
    await session.refresh(webhook)
    return webhook


async def rotate_secret(session: AsyncSession, user_id: UUID, webhook_id: UUID) -> Webhook:
    """Give a webhook a new secret, which signs everything from now on, what is pending included."""
    webhook = await get_webhook(session, user_id, webhook_id, lock=True)
    webhook.secret = new_secret()
    await session.flush()
    note(session, user_id, "webhook.secret_changed", f"webhook:{webhook.id}")
    await session.refresh(webhook)
    return webhook


async def delete_webhook(session: AsyncSession, user_id: UUID, webhook_id: UUID, now: datetime) -> Webhook:
    """Delete a webhook; nothing is sent to it any more."""
    webhook = await get_webhook(session, user_id, webhook_id, lock=True)
    webhook.deleted_at, webhook.is_active = now, False
    note(session, user_id, "webhook.deleted", f"webhook:{webhook.id}")
    await session.flush()
    await session.refresh(webhook)
    return webhook


def _apply(webhook: Webhook, changes: WebhookChanges) -> None:
    if changes.url is not None:
        webhook.url = changes.url
    if changes.events is not None:
        webhook.events = [event.value for event in dict.fromkeys(changes.events)]
    if changes.is_active is not None:
        webhook.is_active = changes.is_active


async def add_ping(session: AsyncSession, user_id: UUID, webhook_id: UUID, now: datetime) -> WebhookDelivery:
    """Write a delivery that tries a webhook out, ahead of what is pending; raises `Conflict` when it is switched off."""
    webhook = await _active(session, user_id, webhook_id)
    body = body_of(PING, {"webhookId": str(webhook.id), "timestamp": moment(now)})
    return await _add_delivery(session, webhook, PING, body, {})


async def resend_delivery(session: AsyncSession, user_id: UUID, webhook_id: UUID, delivery_id: int) -> WebhookDelivery:
    """Write a delivery of the same body once more, ahead of what is pending; raises `Conflict` when it is switched off."""
    webhook = await _active(session, user_id, webhook_id)
    old = await get_delivery(session, user_id, webhook_id, delivery_id)
    return await _add_delivery(session, webhook, old.event, old.body, {RESENT: old.id})


async def _active(session: AsyncSession, user_id: UUID, webhook_id: UUID) -> Webhook:
    webhook = await get_webhook(session, user_id, webhook_id)
    if not webhook.is_active:
        raise Conflict("the webhook is switched off; switch it on first")
    return webhook


async def _add_delivery(
    session: AsyncSession, webhook: Webhook, event: str, body: bytes, details: dict[str, object]
) -> WebhookDelivery:
    delivery = WebhookDelivery(
        user_id=webhook.user_id,
        webhook_id=webhook.id,
        target=str(webhook.id),
        event=event,
        body=body,
        try_at=AT_ONCE,
        details=details,
    )
    session.add(delivery)
    await session.flush()
    await session.refresh(delivery)
    note_told(session, [WebhookInput(webhook.user_id, delivery.target)])
    return delivery


async def list_deliveries(
    session: AsyncSession,
    user_id: UUID,
    webhook_id: UUID,
    *,
    status: DeliveryStatus | None = None,
    before_id: int | None = None,
    limit: int,
) -> Sequence[WebhookDelivery]:
    """What was, or is to be, delivered to a webhook, newest first, beginning behind `before_id`."""
    await get_webhook(session, user_id, webhook_id)
    where: list[ColumnElement[bool]] = [WebhookDelivery.webhook_id == webhook_id]
    if status is not None:
        where.append(literal_column(f"webhook_deliveries.status = '{status.value}'", Boolean))
    if before_id is not None:
        where.append(WebhookDelivery.id < before_id)
    query = select_owned(WebhookDelivery, user_id).where(*where).order_by(WebhookDelivery.id.desc()).limit(limit)
    return (await session.scalars(query)).all()


async def get_delivery(session: AsyncSession, user_id: UUID, webhook_id: UUID, delivery_id: int) -> WebhookDelivery:
    """One delivery of a user's webhook; raises `NotFound` for anyone else's and for another webhook's."""
    await get_webhook(session, user_id, webhook_id)
    where = (WebhookDelivery.webhook_id == webhook_id, WebhookDelivery.id == delivery_id)
    return await get_owned(session, WebhookDelivery, user_id, *where)
