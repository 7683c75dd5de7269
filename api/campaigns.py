"""The shapes of campaigns in requests and answers, the owners' and the administrators' alike."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, time
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path, Request, Response
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, PlainSerializer, computed_field

from api.paging import BIGINT
from siaran.campaign_fields import MAX_CANARY, MAX_DELAY_SECONDS, MAX_MESSAGE, MAX_TITLE, CampaignChanges
from siaran.campaign_reports import Counts
from siaran.errors import Invalid
from siaran.lead_fields import NICHE_LENGTH
from siaran.models import Campaign, CampaignStatus, DeviceStrategy, TargetStatus
from siaran.public_addresses import MAX_URL
from siaran.schedule import format_time, parse_date, parse_time

CampaignId = Annotated[int, Path(ge=1, lt=BIGINT, description="Id of the campaign.")]
MessageId = Annotated[int, Path(ge=1, lt=BIGINT, description="Id of the message.")]

ANY_DEVICE = UUID(int=0)
"""Stands for an empty `device_id`, which lifts a restriction, where `null` leaves it."""

MessageType = Literal["text", "image", "video", "document"]


def _nothing_for_empty(value: Any) -> Any:
    """Forms send an empty text where nothing was filled in."""
    return None if isinstance(value, str) and not value.strip() else value


def _any_for_empty(value: Any) -> Any:
    return ANY_DEVICE if isinstance(value, str) and not value.strip() else value


def _read(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        value = _nothing_for_empty(value)
        if value is None or isinstance(value, date | time):
            return value
        try:
            return parse(value if isinstance(value, str) else "")
        except Invalid as error:
            raise ValueError(error.errors[0].reason) from error

    return read


def _lower(value: Any) -> Any:
    value = _nothing_for_empty(value)
    return value.strip().lower() if isinstance(value, str) else value


Day = Annotated[
    date | None,
    BeforeValidator(_read(parse_date), json_schema_input_type=str | None),
]
ClockTime = Annotated[
    time | None,
    BeforeValidator(_read(parse_time), json_schema_input_type=str | None),
]
Target = Annotated[TargetStatus, BeforeValidator(_lower)]
Strategy = Annotated[DeviceStrategy | None, BeforeValidator(_lower)]
Kind = Annotated[MessageType | None, BeforeValidator(_lower)]
Seconds = Annotated[Annotated[int, Field(ge=0, le=MAX_DELAY_SECONDS)] | None, BeforeValidator(_nothing_for_empty)]
Number = Annotated[Annotated[int, Field(ge=0, le=MAX_CANARY)] | None, BeforeValidator(_nothing_for_empty)]
Percent = Annotated[Annotated[int, Field(ge=0, le=100)] | None, BeforeValidator(_nothing_for_empty)]
ShownTime = Annotated[time, PlainSerializer(format_time, return_type=str)]

DATE_FIELD = Field(None, description="Date in your time zone, YYYY-MM-DD.", examples=["2026-08-31"])
TIME_FIELD = Field(
    None,
    validation_alias=AliasChoices("scheduled_time", "time_schedule"),
    description="Clock time in your time zone, HH:MM or HH:MM:SS; also as `time_schedule`.",
    examples=["09:00"],
)


class CampaignBody(BaseModel):
    """What a campaign can be given; `null` counts as left out."""

    niche: str | None = Field(
        None,
        max_length=NICHE_LENGTH,
        description="Whole tags, comma-separated: leads with any of them. Empty: every lead.",
        examples=["ITADRESS"],
    )
    message: str | None = Field(
        None,
        max_length=MAX_MESSAGE,
        description="Text, or caption of the image. `{{name}}`, `{{phone}}`, `{{niche}}`, with a fallback `{{name|friend}}`; "
        "`{Hi|Hello}` picks one of several.",
    )
    image_url: str | None = Field(
        None,
        max_length=MAX_URL,
        description="Image, video or document to send; empty for none. A URL, which is fetched once and kept, or the "
        "`/api/media/…` of a file you uploaded. Answers hold the latter.",
        examples=["https://example.com/promo.jpg"],
    )
    message_type: Kind = Field(
        None, description="What it goes out as: what the file is unless told otherwise. Any file can go out as a `document`."
    )
    device_strategy: Strategy = Field(
        None,
        description="`balanced` (default): all devices in turn. `sticky`: the device that has written to the contact before. "
        "`owner`: the lead's own device.",
    )
    campaign_date: Day = DATE_FIELD
    scheduled_time: ClockTime = TIME_FIELD
    min_delay_seconds: Seconds = Field(None, description="Shortest gap after a message, 10 by default.")
    max_delay_seconds: Seconds = Field(None, description="Longest gap after a message, 30 by default.")
    send_now: bool = Field(False, description="Due at once, whatever date and time say.")
    canary_size: Number = Field(
        None, description="Send to this many first, and to the others only once those went well. 0 for no such test."
    )
    stop_failed_percent: Percent = Field(
        None,
        description="Pause by itself when more than this share of the messages fails. 0: never; the first ones may lose 20 %.",
    )
    stop_opted_out_percent: Percent = Field(
        None,
        description="Pause by itself when more than this share of the contacts opts out. 0: never. With it, a campaign waits "
        "10 minutes after its first messages (`canary_size`) for who opts out.",
    )


class NewCampaign(CampaignBody):
    """A campaign to create. Without a time it is due on its date at the present clock time: for today, now."""

    title: str = Field(max_length=MAX_TITLE, description="What you call it.", examples=["Merdeka promo"])
    target_status: Target = Field(description="Which leads: `prospect` or `customer`.")
    device_id: Annotated[UUID | None, BeforeValidator(_nothing_for_empty)] = Field(
        None, description="Send from this device only; left out, from all."
    )

    def changes(self) -> CampaignChanges:
        """The same for `siaran.campaign_fields`."""
        return CampaignChanges(**self.model_dump())


class CampaignEdit(CampaignBody):
    """What to change; what is left out stays. Once it has started only title, message, image and delays can change."""

    title: str | None = Field(None, max_length=MAX_TITLE, description="What you call it.")
    target_status: Annotated[TargetStatus | None, BeforeValidator(_lower)] = Field(
        None, description="Which leads: `prospect` or `customer`."
    )
    device_id: Annotated[UUID | None, BeforeValidator(_any_for_empty)] = Field(
        None, description="Send from this device only; empty: from all again."
    )

    def changes(self) -> CampaignChanges:
        """The same for `siaran.campaign_fields`."""
        changes = CampaignChanges(**self.model_dump())
        return replace(changes, device_id=None, any_device=True) if changes.device_id == ANY_DEVICE else changes


class CountsView(BaseModel):
    """How many messages are in which state now; the eight states add up to `total`."""

    total: int
    pending: int = Field(description="Not sent yet, those being sent right now included.")
    sent: int = Field(description="Accepted by WhatsApp and not yet known to be delivered.")
    delivered: int = Field(description="Delivered and not yet known to be read.")
    read: int
    failed: int = Field(description="Not sent.")
    unknown: int = Field(description="Nobody can tell whether they were sent.")
    suppressed: int = Field(description="Not sent because the contact had opted out.")
    cancelled: int = Field(description="Not sent because the campaign was cancelled.")
    success: int = Field(description="sent + delivered + read.")

    @classmethod
    def of(cls, counts: Counts) -> "CountsView":
        """The counters of a campaign."""
        return cls.model_validate(counts, from_attributes=True)


class CampaignView(BaseModel):
    """A campaign."""

    id: int
    user_id: UUID
    device_id: UUID | None = Field(description="The one device it is restricted to, if any.")
    title: str
    niche: str
    target_status: TargetStatus
    message: str
    image_url: str | None
    message_type: MessageType
    campaign_date: date = Field(description="Date in its owner's time zone.")
    scheduled_time: ShownTime = Field(description="Clock time in its owner's time zone.")
    scheduled_at: datetime = Field(description="The instant that date and time mean.")
    min_delay_seconds: int
    max_delay_seconds: int
    device_strategy: DeviceStrategy
    canary_size: int | None
    canary_passed_at: datetime | None = Field(description="When the first messages were found to have gone well.")
    stop_failed_percent: int | None
    stop_opted_out_percent: int | None
    status: CampaignStatus
    status_reason: str | None = Field(description="What it waits for, or why it ended so.")
    counts: CountsView
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @computed_field(description="The same as `scheduled_time`.")  # type: ignore[prop-decorator]  # pydantic's documented way
    @property
    def time_schedule(self) -> ShownTime:
        """The name that the original gives it in places."""
        return self.scheduled_time

    @classmethod
    def of(cls, campaign: Campaign, counts: Counts) -> "CampaignView":
        """A campaign's row and counters."""
        columns = {name: getattr(campaign, name) for name in cls.model_fields if name != "counts"}
        return cls.model_validate({**columns, "counts": CountsView.of(counts)})


class Retried(BaseModel):
    """What a retry has queued."""

    retried: int = Field(description="Messages queued by this request; those queued by an earlier one do not count again.")


def retry_message(retried: int) -> str:
    """How the original says it."""
    return f"Successfully queued {retried} messages for retry"


def link_next(request: Request, response: Response, cursor: str | None) -> None:
    """Name the next page in headers too, for callers who take `results` for the whole answer."""
    if cursor is not None:
        response.headers["X-Next-Cursor"] = cursor
        response.headers["Link"] = f'<{request.url.include_query_params(cursor=cursor)}>; rel="next"'
