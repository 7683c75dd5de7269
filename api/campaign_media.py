"""The image of a campaign that is being saved: a URL is fetched once, outside of any transaction, and kept as media."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.context import Context
from siaran.campaign_fields import CampaignChanges
from siaran.campaigns import get_campaign
from siaran.errors import NotFound
from siaran.media import get_media, reference_to, referenced_id
from siaran.media_fetch import keep_from_url
from siaran.models import Campaign
from siaran.public_addresses import is_web_url

Save = Callable[[AsyncSession, CampaignChanges], Awaitable[Campaign]]


async def keep_image(
    context: Context, user_id: UUID, wanted: CampaignChanges, check: Save, *, campaign_id: int | None = None
) -> CampaignChanges:
    """The changes with the reference of the kept file in place of its URL, fetched if it is new.

    `check` saves the changes in a transaction that is rolled back, so that whatever else is wrong is said before anything is
    fetched. Raises what it raises, and `Invalid` for `image_url`.
    """
    url = (wanted.image_url or "").strip()
    if not is_web_url(url):
        return wanted
    async with context.sessions() as session:
        present = await _present(session, user_id, campaign_id, url)
        if present is not None:
            return replace(wanted, image_url=present)
        await check(session, wanted)
    media = await keep_from_url(
        context.sessions,
        user_id,
        url,
        field="image_url",
        allow_private=context.settings.allow_private_targets,
        clock=context.clock,
    )
    return replace(wanted, image_url=reference_to(media.id))


async def _present(session: AsyncSession, user_id: UUID, campaign_id: int | None, url: str) -> str | None:
    """What the campaign's `image_url` is already, if it stands for this URL."""
    if campaign_id is None:
        return None
    image_url = (await get_campaign(session, user_id, campaign_id)).image_url
    if image_url == url:
        return url
    media_id = referenced_id(image_url)
    if media_id is None:
        return None
    try:
        media = await get_media(session, user_id, media_id)
    except NotFound:
        return None
    return image_url if media.source_url == url else None
