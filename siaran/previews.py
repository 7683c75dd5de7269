"""Previews: a message as its recipients see it, before it is sent and afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, not_, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.audience import EVERY_STATUS, audience_condition, is_suppressed
from siaran.campaign_messages import GROUPS, campaign_messages
from siaran.models import BroadcastMessage, Campaign, Lead, MessageAttempt, MessageStatus
from siaran.one_off import OPEN
from siaran.rendering import check_template, render
from siaran.tenancy import get_owned, select_owned

MOST = 20
"""Recipients of one preview."""

EXAMPLE_NAME = "Aisyah"
EXAMPLE_PHONE = "60123456789"


@dataclass(frozen=True, slots=True)
class Shown:
    """What one recipient sees.

    `is_final` says that this is word for word what was sent, or what will be unless it is edited: without a row in the ledger
    the choices of spintax are still open. One that is neither a lead nor a message is made up.
    """

    name: str
    phone: str
    text: str
    lead_id: int | None = None
    message_id: int | None = None
    status: MessageStatus | None = None
    is_final: bool = False


async def preview_campaign(session: AsyncSession, campaign: Campaign, *, lead_id: int | None, limit: int) -> list[Shown]:
    """The message of a campaign for one lead, or for its first recipients; raises `NotFound` for somebody else's lead."""
    if lead_id is not None:
        lead = await get_owned(session, Lead, campaign.user_id, Lead.id == lead_id)
        row = await session.scalar(
            select_owned(BroadcastMessage, campaign.user_id).where(
                BroadcastMessage.campaign_id == campaign.id, BroadcastMessage.recipient_phone == lead.phone
            )
        )
        return await _rows(session, campaign, [row]) if row is not None else [_lead(lead, campaign.message)]
    rows = await campaign_messages(session, campaign, GROUPS["all"], limit=limit)
    if rows:
        return await _rows(session, campaign, rows)
    return await preview_text(
        session, campaign.user_id, campaign.message, niche=campaign.niche, target_status=campaign.target_status, limit=limit
    )


async def preview_text(
    session: AsyncSession,
    user_id: UUID,
    message: str,
    *,
    niche: str = "",
    target_status: str = EVERY_STATUS,
    lead_id: int | None = None,
    limit: int,
) -> list[Shown]:
    """A text for one lead, or for the first of those who match and have not opted out, or for a made-up one if none does.

    Raises `Invalid` for a field that does not exist, and `NotFound` for somebody else's lead.
    """
    check_template(message)
    if lead_id is not None:
        return [_lead(await get_owned(session, Lead, user_id, Lead.id == lead_id), message)]
    matches = and_(audience_condition(user_id, niche, target_status), not_(is_suppressed()))
    leads = (await session.scalars(select(Lead).where(matches).order_by(Lead.id).limit(limit))).all()
    if leads:
        return [_lead(lead, message) for lead in leads]
    text = render(message, name=EXAMPLE_NAME, phone=EXAMPLE_PHONE, niche=niche, seed=0)
    return [Shown(EXAMPLE_NAME, EXAMPLE_PHONE, text)]


def _lead(lead: Lead, message: str) -> Shown:
    text = render(message, name=lead.name, phone=lead.phone, niche=lead.niche, seed=lead.id)
    return Shown(lead.name, lead.phone, text, lead_id=lead.id)


async def _rows(session: AsyncSession, campaign: Campaign, rows: Sequence[BroadcastMessage]) -> list[Shown]:
    """What was sent where something was; else what the claim will render, whose seed is the row's id."""
    attempts = select_owned(MessageAttempt, campaign.user_id).where(
        MessageAttempt.message_id.in_([row.id for row in rows if row.status is not MessageStatus.PENDING])
    )
    sent = {(attempt.message_id, attempt.attempt): attempt.content for attempt in await session.scalars(attempts)}
    return [_row(campaign, row, sent.get((row.id, row.attempt))) for row in rows]


def _row(campaign: Campaign, row: BroadcastMessage, sent: str | None) -> Shown:
    rendered = render(
        campaign.message, name=row.recipient_name, phone=row.recipient_phone, niche=row.recipient_niche, seed=row.id
    )
    return Shown(
        name=row.recipient_name,
        phone=row.recipient_phone,
        text=rendered if sent is None else sent,
        lead_id=row.lead_id,
        message_id=row.id,
        status=row.status,
        is_final=sent is not None or row.status in OPEN,
    )
