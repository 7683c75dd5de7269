"""Previews of campaigns: what recipients see, saved or not."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import UserDep
from api.campaigns import CampaignBody, CampaignId, MessageType
from api.context import ContextDep
from api.envelope import Envelope, success
from api.paging import BIGINT
from siaran.audience import EVERY_STATUS
from siaran.campaigns import get_campaign
from siaran.errors import Invalid
from siaran.lead_fields import clean_niche
from siaran.media import find_media, referenced_id
from siaran.message_types import kind_of_attachment
from siaran.models import MessageStatus, TargetStatus
from siaran.previews import MOST, Shown, preview_campaign, preview_text
from siaran.public_addresses import is_web_url

router = APIRouter(tags=["campaigns"])

LeadId = Annotated[int, Field(ge=1, lt=BIGINT, description="Show it for this lead only.")]
Limit = Annotated[int, Field(ge=1, le=MOST, description="For how many recipients at most.")]


class RecipientPreview(BaseModel):
    """What one recipient sees."""

    model_config = ConfigDict(from_attributes=True)

    name: str
    phone: str
    text: str = Field(description="The text, or the caption.")
    lead_id: int | None = Field(description="`null` for an example that is made up because no lead matches.")
    message_id: int | None = Field(description="Its message, once the campaign has one for them.")
    status: MessageStatus | None
    is_final: bool = Field(
        description="Word for word what was sent, or will be unless you edit it. Else the choices of `{a|b}` are open."
    )


class PreviewView(BaseModel):
    """A message as it goes out."""

    message_type: MessageType
    image_url: str | None
    recipients: list[RecipientPreview]

    @classmethod
    def of(cls, message_type: str, image_url: str | None, shown: list[Shown]) -> "PreviewView":
        """A campaign's type and media with what its recipients see."""
        recipients = [RecipientPreview.model_validate(item) for item in shown]
        return cls.model_validate({"message_type": message_type, "image_url": image_url, "recipients": recipients})


class Draft(CampaignBody):
    """The fields of a campaign that is not saved; only those that a recipient sees or that choose recipients count."""

    target_status: Annotated[
        TargetStatus | None, BeforeValidator(lambda value: value.strip().lower() or None if isinstance(value, str) else value)
    ] = Field(None, description="Which leads to show it for; left out, any.")
    lead_id: LeadId | None = Field(None, description="Show it for this lead only.")
    limit: Limit = 3


@router.post("/api/campaigns/preview")
async def preview_draft(body: Draft, user: UserDep, context: ContextDep) -> Envelope[PreviewView]:
    """What recipients would see of fields that are not saved; an image given by URL is not fetched."""
    image_url = (body.image_url or "").strip() or None
    async with context.sessions.begin() as session:
        message_type = await _type_of(session, user, image_url, body.message_type)
        shown = await preview_text(
            session,
            user.id,
            body.message or "",
            niche=clean_niche(body.niche or "").text,
            target_status=body.target_status or EVERY_STATUS,
            lead_id=body.lead_id,
            limit=body.limit,
        )
    return success(PreviewView.of(message_type, image_url, shown), "Preview")


async def _type_of(session: AsyncSession, user: UserDep, image_url: str | None, wanted: str | None) -> str:
    """What it would go out as; raises `Invalid` for what is neither a URL nor a file of the user's."""
    if image_url is None:
        return "text"
    if referenced_id(image_url) is None:
        if not is_web_url(image_url):
            raise Invalid.field("image_url", "must begin with https:// or http:// and name a host")
        return wanted if wanted not in {None, "text"} and wanted else "image"
    kind = kind_of_attachment((await find_media(session, user.id, image_url)).mime_type)
    return "document" if wanted == "document" else kind.value


@router.get("/api/campaigns/{campaign_id}/preview")
async def preview_saved(
    campaign_id: CampaignId,
    user: UserDep,
    context: ContextDep,
    lead_id: Annotated[LeadId | None, Query()] = None,
    limit: Annotated[Limit, Query()] = 3,
) -> Envelope[PreviewView]:
    """What its recipients see, or saw: the first of them, or one lead."""
    async with context.sessions.begin() as session:
        campaign = await get_campaign(session, user.id, campaign_id)
        shown = await preview_campaign(session, campaign, lead_id=lead_id, limit=limit)
    return success(PreviewView.of(campaign.message_type, campaign.image_url, shown), "Preview")
