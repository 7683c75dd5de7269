"""Whose campaign is whose: the administrators' way to campaigns, which then go on through their owners' functions."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.campaign_reports import CampaignFilter, Counts, counts_by_campaign
from siaran.errors import NotFound
from siaran.models import Campaign, User


async def find_owner(session: AsyncSession, campaign_id: int) -> User:
    """The user whose campaign it is, even if it is deleted; raises `NotFound` for none."""
    query = select(User).join(Campaign, Campaign.user_id == User.id).where(Campaign.id == campaign_id)
    owner = (await session.scalars(query)).one_or_none()
    if owner is None:
        raise NotFound("no such campaign")
    return owner


async def list_all_campaigns(
    session: AsyncSession, wanted: CampaignFilter, *, user_id: UUID | None, after: int | None, limit: int
) -> Sequence[tuple[Campaign, User]]:
    """Campaigns of one user or of all, with their owners, newest first, beginning behind the id `after`."""
    query = wanted.apply(select(Campaign))
    if user_id is not None:
        query = query.where(Campaign.user_id == user_id)
    if after is not None:
        query = query.where(Campaign.id < after)
    page = query.order_by(Campaign.id.desc()).limit(limit)
    rows = (await session.execute(page.join(User, User.id == Campaign.user_id).add_columns(User))).all()
    return [(campaign, owner) for campaign, owner in rows]


async def counts_of_all(session: AsyncSession, rows: Sequence[tuple[Campaign, User]]) -> dict[int, Counts]:
    """The counters of campaigns of several owners."""
    owned: dict[UUID, list[int]] = {}
    for campaign, owner in rows:
        owned.setdefault(owner.id, []).append(campaign.id)
    counts: dict[int, Counts] = {}
    for user_id, campaign_ids in owned.items():
        counts |= await counts_by_campaign(session, user_id, campaign_ids)
    return counts
