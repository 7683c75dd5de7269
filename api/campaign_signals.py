"""The signals that follow a committed change of a campaign, to its workflow and lanes; none of them may fail a request."""

from collections.abc import Collection
from uuid import UUID

from api.context import Context
from siaran.campaign_retries import Retry
from siaran.contracts import CampaignInput, RetryInput
from siaran.lanes import wake_lanes
from siaran.models import Campaign
from siaran.temporal import nudge_campaign, request_retry


async def signal_change(context: Context, campaign: Campaign) -> bool:
    """Have the campaign's workflow look at its row; False when Temporal is away and the sweep has to make up for it."""
    return await nudge_campaign(context.temporal, CampaignInput(campaign.id, campaign.user_id))


async def signal_resumed(context: Context, campaign: Campaign, devices: Collection[UUID]) -> None:
    """The same, and wake the lanes that have messages of the campaign: they may be waiting for nothing but this."""
    if await signal_change(context, campaign):
        await wake_lanes(context.sessions, context.temporal, context.redis, devices)


async def signal_retry(context: Context, user_id: UUID, campaign_id: int, retry: Retry) -> None:
    """Have the campaign's workflow carry out every open request; each is carried out once, however often it is signalled."""
    for request_id in retry.request_ids:
        if not await request_retry(context.temporal, RetryInput(campaign_id, user_id, request_id)):
            return
