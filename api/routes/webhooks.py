"""Webhooks: addresses that are told of events, and the log of what was delivered to them."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, ConfigDict, Field

from api.auth import UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from siaran import webhooks
from siaran.contracts import WebhookInput
from siaran.models import DeliveryStatus, Webhook, WebhookDelivery
from siaran.public_addresses import MAX_URL
from siaran.webhook_events import WebhookEvent
from siaran.webhook_signals import signal_webhook
from siaran.webhooks import MOST_WEBHOOKS, RESENT, WebhookChanges, check_address

router = APIRouter(tags=["webhooks"])

DeliveryId = Annotated[int, Path(ge=1, lt=2**63, description="The delivery's number, as in `X-Siaran-Delivery`.")]

URL = "An `http://` or `https://` address on the public internet that answers POST with 2xx."
EVENTS = "What it is told of, at least one of " + ", ".join(f"`{event}`" for event in WebhookEvent) + "."


class NewWebhook(BaseModel):
    """An address and what it is to be told of."""

    url: str = Field(max_length=MAX_URL, description=URL, examples=["https://example.com/siaran"])
    events: list[WebhookEvent] = Field(min_length=1, max_length=20, description=EVENTS, examples=[["message", "receipt"]])
    is_active: bool = Field(True, description="`false` to begin switched off.")


class WebhookChange(BaseModel):
    """What to change; what is left out stays."""

    url: str | None = Field(None, max_length=MAX_URL, description=URL + " What is pending goes there, too.")
    events: list[WebhookEvent] | None = Field(None, min_length=1, max_length=20, description=EVENTS)
    is_active: bool | None = Field(
        None, description="`false` switches it off: it hears of nothing that happens meanwhile, and what is pending fails."
    )


class WebhookView(BaseModel):
    """A webhook, without its secret."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    url: str
    events: list[str]
    is_active: bool = Field(description="`false` also after its address answered 410 Gone.")
    created_at: datetime
    updated_at: datetime


class WebhookSecretView(WebhookView):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="Signs the deliveries; keep it, it is not shown again.")


class DeliveryView(BaseModel):
    """One event for one webhook."""

    id: int = Field(description="Stays the same over all tries: `X-Siaran-Delivery`.")
    event: str = Field(description="The event, or `ping`.")
    status: DeliveryStatus
    tries: int
    next_try_at: datetime | None = Field(description="When a pending one that has failed before is tried again.")
    status_code: int | None = Field(description="What the address answered to the last try; `null` for no answer.")
    error: str | None = Field(description="Why there was no answer, or why it was given up.")
    answer: str | None = Field(description="How the last answer's content began.")
    took_ms: int | None = Field(description="How long the last try took, in milliseconds.")
    resend_of: int | None = Field(description="The delivery whose body this one repeats.")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        """The view of a row."""
        return cls(**_view(row))


class DeliveryBodyView(DeliveryView):
    """One event for one webhook, with what is sent."""

    body: str = Field(description="Exactly what is sent and signed.")

    @classmethod
    def of(cls, row: WebhookDelivery) -> Self:
        """The view of a row."""
        return cls(**_view(row), body=row.body.decode(errors="replace"))


def _view(row: WebhookDelivery) -> dict[str, object]:
    resent = row.details.get(RESENT)
    waits = row.status is DeliveryStatus.PENDING and row.tries > 0
    return {
        **{name: getattr(row, name) for name in DeliveryView.model_fields if name not in {"next_try_at", "resend_of"}},
        "next_try_at": row.try_at if waits else None,
        "resend_of": resent,
    }


@router.post("/api/webhooks", status_code=status.HTTP_201_CREATED)
async def create_webhook(body: NewWebhook, user: UserDep, context: ContextDep) -> Envelope[WebhookSecretView]:
    """Have an address told of events from now on. The answer holds the secret that signs them; it is not shown again."""
    await check_address(body.url, allow_private=context.settings.allow_private_targets)
    changes = WebhookChanges(url=body.url, events=body.events, is_active=body.is_active)
    async with context.sessions.begin() as session:
        webhook = await webhooks.add_webhook(session, user.id, changes)
    return success(WebhookSecretView.model_validate(webhook), "Webhook added")


@router.get("/api/webhooks", description=f"Your webhooks, oldest first; there may be {MOST_WEBHOOKS}.")
async def get_webhooks(paging: PagingDep, user: UserDep, context: ContextDep) -> ListEnvelope[WebhookView]:
    """Your webhooks, oldest first."""
    async with context.sessions.begin() as session:
        found = await webhooks.list_webhooks(session, user.id, limit=paging.fetch, after=paging.after(tuple[datetime, UUID]))
    page, next_cursor = paging.cut(found, lambda webhook: (webhook.created_at, webhook.id))
    return listed([WebhookView.model_validate(webhook) for webhook in page], next_cursor)


@router.get("/api/webhooks/{webhook_id}")
async def get_webhook(webhook_id: UUID, user: UserDep, context: ContextDep) -> Envelope[WebhookView]:
    """One webhook."""
    async with context.sessions.begin() as session:
        webhook = await webhooks.get_webhook(session, user.id, webhook_id)
    return success(WebhookView.model_validate(webhook))


@router.put("/api/webhooks/{webhook_id}")
async def change_webhook(webhook_id: UUID, body: WebhookChange, user: UserDep, context: ContextDep) -> Envelope[WebhookView]:
    """Change a webhook's address or events, or switch it on or off."""
    if body.url is not None:
        await check_address(body.url, allow_private=context.settings.allow_private_targets)
    changes = WebhookChanges(url=body.url, events=body.events, is_active=body.is_active)
    async with context.sessions.begin() as session:
        webhook = await webhooks.change_webhook(session, user.id, webhook_id, changes)
    await _tell(context, webhook)
    return success(WebhookView.model_validate(webhook), "Webhook changed")


@router.delete("/api/webhooks/{webhook_id}")
async def delete_webhook(webhook_id: UUID, user: UserDep, context: ContextDep) -> Envelope[WebhookView]:
    """Delete a webhook for good; nothing more is sent to it."""
    async with context.sessions.begin() as session:
        webhook = await webhooks.delete_webhook(session, user.id, webhook_id, context.clock())
    await _tell(context, webhook)
    return success(WebhookView.model_validate(webhook), "Webhook deleted")


@router.post("/api/webhooks/{webhook_id}/secret")
async def rotate_secret(webhook_id: UUID, user: UserDep, context: ContextDep) -> Envelope[WebhookSecretView]:
    """Replace the secret; everything that is sent from now on is signed with the new one, which is shown this once."""
    async with context.sessions.begin() as session:
        webhook = await webhooks.rotate_secret(session, user.id, webhook_id)
    return success(WebhookSecretView.model_validate(webhook), "Secret replaced")


@router.post("/api/webhooks/{webhook_id}/ping", status_code=status.HTTP_202_ACCEPTED)
async def ping_webhook(webhook_id: UUID, user: UserDep, context: ContextDep) -> Envelope[DeliveryView]:
    """Send an event `ping` to try a webhook out, ahead of what is pending; the delivery log tells what came of it."""
    async with context.sessions.begin() as session:
        delivery = await webhooks.add_ping(session, user.id, webhook_id, context.clock())
    await signal_webhook(context.temporal, WebhookInput(user.id, delivery.target), "changed")
    return success(DeliveryView.of(delivery), "Ping is on its way")


@router.get("/api/webhooks/{webhook_id}/deliveries")
async def get_deliveries(
    webhook_id: UUID,
    paging: PagingDep,
    user: UserDep,
    context: ContextDep,
    status: Annotated[DeliveryStatus | None, Query(description="Only those `pending`, `delivered` or `failed`.")] = None,
) -> ListEnvelope[DeliveryView]:
    """What was, or is still to be, delivered to a webhook, newest first; kept for 30 days."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        found = await webhooks.list_deliveries(
            session,
            user.id,
            webhook_id,
            status=status,
            before_id=after[0] if after is not None else None,
            limit=paging.fetch,
        )
    page, next_cursor = paging.cut(found, lambda delivery: (delivery.id,))
    return listed([DeliveryView.of(delivery) for delivery in page], next_cursor)


@router.get("/api/webhooks/{webhook_id}/deliveries/{delivery_id}")
async def get_delivery(
    webhook_id: UUID, delivery_id: DeliveryId, user: UserDep, context: ContextDep
) -> Envelope[DeliveryBodyView]:
    """One delivery with what is sent."""
    async with context.sessions.begin() as session:
        delivery = await webhooks.get_delivery(session, user.id, webhook_id, delivery_id)
    return success(DeliveryBodyView.of(delivery))


@router.post("/api/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", status_code=status.HTTP_202_ACCEPTED)
async def resend_delivery(
    webhook_id: UUID, delivery_id: DeliveryId, user: UserDep, context: ContextDep
) -> Envelope[DeliveryView]:
    """Send a delivery once more, whatever became of it: a new one with the same body, ahead of what is pending."""
    async with context.sessions.begin() as session:
        delivery = await webhooks.resend_delivery(session, user.id, webhook_id, delivery_id)
    await signal_webhook(context.temporal, WebhookInput(user.id, delivery.target), "changed")
    return success(DeliveryView.of(delivery), "Delivery is on its way")


async def _tell(context: Context, webhook: Webhook) -> None:
    """What is pending goes to the new address, or nowhere any more."""
    await signal_webhook(context.temporal, WebhookInput(webhook.user_id, str(webhook.id)), "changed")
