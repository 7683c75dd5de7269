"""The outbox of webhooks: what is due for an address, and what became of it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note
from siaran.contracts import WebhookInput
from siaran.models import DeliveryStatus, Webhook, WebhookDelivery
from siaran.settings import Settings
from siaran.tenancy import select_owned, update_owned
from siaran.webhook_events import default_target, split_addresses
from siaran.webhook_retries import Answer

KEPT = timedelta(days=30)
PRUNED_AT_ONCE = 50_000
ENDED_AT_ONCE = 5_000

SWITCHED_OFF = "not sent: the webhook has been switched off or deleted"
GONE = "not sent: the address answered 410, which switched the webhook off"
NO_ADDRESS = "not sent: the address has been taken out of the settings"
NEVER_UP = "not sent: the address has taken nothing for a day"


PENDING = text("webhook_deliveries.status = 'pending'")
"""Written out, so that even a prepared statement finds the index of what is pending."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a delivery goes and what signs it; `webhook_id` is None for an address of the installation."""

    url: str
    secret: str | None
    webhook_id: UUID | None


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is to be made now; `tries` were made before."""

    id: int
    event: str
    body: bytes
    tries: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one try; it is tried again at `try_at` where `status` is still `pending`."""

    delivery_id: int
    user_id: UUID
    tries: int
    status: DeliveryStatus
    answer: Answer
    at: datetime
    try_at: datetime | None = None


_RECORD = text("""
    UPDATE webhook_deliveries d SET
        status = r.status, tries = d.tries + 1, try_at = coalesce(r.try_at, d.try_at), status_code = r.status_code,
        error = nullif(r.error, ''), answer = r.answer, took_ms = r.took_ms,
        ended_at = CASE WHEN r.status <> 'pending' THEN r.at END
    FROM unnest(
        CAST(:deliveries AS bigint[]), CAST(:users AS uuid[]), CAST(:tries AS int[]), CAST(:statuses AS text[]),
        CAST(:try_ats AS timestamptz[]), CAST(:codes AS int[]), CAST(:errors AS text[]), CAST(:answers AS text[]),
        CAST(:durations AS int[]), CAST(:times AS timestamptz[])
    ) AS r(id, user_id, tries, status, try_at, status_code, error, answer, took_ms, at)
    WHERE d.id = r.id AND d.user_id = r.user_id AND d.status = 'pending' AND d.tries = r.tries
""")

_END = text("""
    UPDATE webhook_deliveries SET status = 'failed', error = :error, ended_at = :now
    WHERE user_id = :user AND id = ANY(ARRAY(
        SELECT id FROM webhook_deliveries
        WHERE target = :target AND status = 'pending' AND user_id = :user AND created_at < :before
        ORDER BY try_at, id LIMIT :most
    ))
""")

_FORGOTTEN = text("""
    SELECT DISTINCT user_id, target FROM webhook_deliveries WHERE status = 'pending' AND try_at < :late LIMIT :most
""")

_PRUNE = text("""
    DELETE FROM webhook_deliveries WHERE id = ANY(ARRAY(
        SELECT id FROM webhook_deliveries WHERE created_at < :before AND status <> 'pending' LIMIT :most
    ))
""")


async def find_address(session: AsyncSession, order: WebhookInput, settings: Settings) -> tuple[Address | None, str]:
    """Where an order's deliveries go; None with the reason where they cannot go anywhere any more."""
    try:
        webhook_id = UUID(order.target) if "-" in order.target else None
    except ValueError:
        webhook_id = None
    if webhook_id is None:
        for url in split_addresses(settings.webhook):
            if default_target(order.user_id, url) == order.target:
                secret = settings.webhook_secret
                return Address(url, secret.get_secret_value() if secret else None, None), ""
        return None, NO_ADDRESS
    webhook = await session.scalar(select_owned(Webhook, order.user_id).where(Webhook.id == webhook_id))
    if webhook is None or webhook.deleted_at is not None or not webhook.is_active:
        return None, SWITCHED_OFF
    return Address(webhook.url, webhook.secret, webhook.id), ""


async def due_deliveries(
    session: AsyncSession, order: WebhookInput, now: datetime, *, under_way: Collection[int], limit: int
) -> list[Due]:
    """What is to be delivered now and is not under way, in the order in which it fell due."""
    row = WebhookDelivery
    query = (
        select(row.id, row.event, row.body, row.tries)
        .where(row.user_id == order.user_id, row.target == order.target, PENDING)
        .where(row.try_at <= now, row.id.not_in(under_way))
        .order_by(row.try_at, row.id)
        .limit(limit)
    )
    return [Due(found.id, found.event, found.body, found.tries) for found in await session.execute(query)]


async def next_due_at(session: AsyncSession, order: WebhookInput) -> datetime | None:
    """When the next pending delivery falls due, None when there is none."""
    row = WebhookDelivery
    query = (
        select(row.try_at)
        .where(row.user_id == order.user_id, row.target == order.target, PENDING)
        .order_by(row.try_at, row.id)
        .limit(1)
    )
    due_at: datetime | None = await session.scalar(query)
    return due_at


async def record_outcomes(session: AsyncSession, outcomes: Sequence[Outcome]) -> None:
    """Write what came of tries; one that somebody else has recorded meanwhile changes nothing."""
    await session.execute(
        _RECORD,
        {
            "deliveries": [outcome.delivery_id for outcome in outcomes],
            "users": [outcome.user_id for outcome in outcomes],
            "tries": [outcome.tries for outcome in outcomes],
            "statuses": [outcome.status.value for outcome in outcomes],
            "try_ats": [outcome.try_at for outcome in outcomes],
            "codes": [outcome.answer.status_code for outcome in outcomes],
            "errors": [outcome.answer.error for outcome in outcomes],
            "answers": [outcome.answer.text for outcome in outcomes],
            "durations": [round(outcome.answer.took.total_seconds() * 1000) for outcome in outcomes],
            "times": [outcome.at for outcome in outcomes],
        },
    )


async def try_all_again(session: AsyncSession, user_id: UUID, target: str) -> None:
    """Make everything that waits for its next try due now, oldest first: the address is back, or is another one."""
    row = WebhookDelivery
    await session.execute(
        update_owned(row, user_id)
        .where(row.target == target, PENDING, row.try_at > row.created_at)
        .values(try_at=row.created_at)
    )


async def end_pending(
    session: AsyncSession, order: WebhookInput, error: str, now: datetime, *, before: datetime | None = None
) -> int:
    """Give up what is pending, or what was written `before` then, a bounded number at a time; returns how many."""
    values = {"user": order.user_id, "target": order.target, "error": error, "now": now, "most": ENDED_AT_ONCE}
    found = await session.execute(_END, {**values, "before": before or now + timedelta(days=1)})
    return int(found.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result is a CursorResult


async def switch_off(session: AsyncSession, user_id: UUID, webhook_id: UUID) -> None:
    """Tell a webhook nothing more, since its address is gone for good; the activity log says so."""
    statement = update(Webhook).where(Webhook.id == webhook_id, Webhook.user_id == user_id, Webhook.is_active)
    if (await session.execute(statement.values(is_active=False).returning(Webhook.id))).first() is not None:
        note(session, user_id, "webhook.switched_off", f"webhook:{webhook_id}", details={"reason": "its address answered 410"})


async def forgotten_webhooks(session: AsyncSession, late: datetime, *, most: int) -> list[WebhookInput]:
    """The addresses that something should have been sent to before `late`."""
    rows = await session.execute(_FORGOTTEN, {"late": late, "most": most})
    return [WebhookInput(row.user_id, row.target) for row in rows]


async def prune_deliveries(session: AsyncSession, now: datetime) -> None:
    """Remove deliveries that ended long ago, a bounded number at a time; the caller commits."""
    await session.execute(_PRUNE, {"before": now - KEPT, "most": PRUNED_AT_ONCE})
