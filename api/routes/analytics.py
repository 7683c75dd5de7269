"""Analytics: what one's devices sent and what came of it, day by day."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from api.attachments import CSV_ANSWER, attach_csv
from api.auth import AuthenticatedUser, UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, success
from siaran.analytics import (
    Connected,
    DayCounts,
    DayRange,
    check_device,
    count_connected,
    count_days,
    named_range,
    parse_range,
)
from siaran.campaign_exports import export_analytics

router = APIRouter(tags=["analytics"])


class Metrics(BaseModel):
    """The range added up; "leads" are messages, as in the original."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    active_devices: int = Field(description="Devices that are connected at the moment.")
    inactive_devices: int = Field(description="Devices that are not.")
    leads_sent: int = Field(description="Sent in the range.")
    leads_received: int = Field(description="Those of them that were delivered since.")
    leads_not_received: int = Field(description="Sent and not, or not yet, delivered.")
    leads_read: int = Field(description="Those of them that were read since.")
    leads_not_read: int = Field(description="Delivered and not, or not yet, read.")
    leads_replied: int = Field(description="Contacts who replied in the range, each at most once a day and device.")

    @classmethod
    def of(cls, counts: DayCounts, connected: Connected) -> Self:
        """What the days add up to."""
        return cls(
            active_devices=connected.active,
            inactive_devices=connected.inactive,
            leads_sent=counts.sent,
            leads_received=counts.received,
            leads_not_received=counts.sent - counts.received,
            leads_read=counts.read,
            leads_not_read=counts.received - counts.read,
            leads_replied=counts.replied,
        )


class DayView(BaseModel):
    """One day in one's time zone. Received and read count on the day on which their message was sent."""

    date: date
    sent: int
    received: int
    read: int
    replied: int


class FailedDay(BaseModel):
    """What failed on one day, those included of which nobody can tell."""

    date: date
    failed: int


class Analytics(BaseModel):
    """A range of days, every one of them present."""

    metrics: Metrics
    daily: list[DayView]
    failures: list[FailedDay]

    @classmethod
    def of(cls, days: Mapping[date, DayCounts], connected: Connected) -> Self:
        """The days and what they add up to."""
        return cls(
            metrics=Metrics.of(sum(days.values(), DayCounts()), connected),
            daily=[
                DayView(date=day, sent=counts.sent, received=counts.received, read=counts.read, replied=counts.replied)
                for day, counts in days.items()
            ],
            failures=[FailedDay(date=day, failed=counts.failed) for day, counts in days.items()],
        )


def _all_for_empty(value: Any) -> Any:
    return None if isinstance(value, str) and value.strip().lower() in {"", "all"} else value


DeviceQuery = Annotated[
    Annotated[UUID | None, BeforeValidator(_all_for_empty)],
    Query(alias="device", description="Only this device of yours, deleted ones included; empty or `all` for all."),
]


def read_named_range(
    user: UserDep, context: ContextDep, days: Annotated[str, Path(max_length=20, description="`today`, `7`, `30` or `90`.")]
) -> DayRange:
    """The days that end today in one's time zone."""
    return named_range(days, user.timezone, context.clock())


def read_custom_range(
    start: Annotated[str, Query(max_length=20, description="The first day, YYYY-MM-DD.")],
    end: Annotated[str, Query(max_length=20, description="The last day, YYYY-MM-DD.")],
) -> DayRange:
    """The query parameters `start` and `end`."""
    return parse_range(start, end)


NamedRangeDep = Annotated[DayRange, Depends(read_named_range)]
CustomRangeDep = Annotated[DayRange, Depends(read_custom_range)]


@router.get("/api/analytics/custom")
async def read_custom_days(
    days: CustomRangeDep, user: UserDep, context: ContextDep, device_id: DeviceQuery = None
) -> Envelope[Analytics]:
    """Any range of at most two years."""
    return await _answer(context, user, days, device_id)


@router.get("/api/analytics/custom/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_custom_days(
    days: CustomRangeDep, user: UserDep, context: ContextDep, device_id: DeviceQuery = None
) -> StreamingResponse:
    """The same as a CSV file, device by device."""
    return await _export(context, user, days, device_id)


@router.get("/api/analytics/{days}")
async def read_days(
    days: NamedRangeDep, user: UserDep, context: ContextDep, device_id: DeviceQuery = None
) -> Envelope[Analytics]:
    """Today, or the last 7, 30 or 90 days with today as the last."""
    return await _answer(context, user, days, device_id)


@router.get("/api/analytics/{days}/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_days(
    days: NamedRangeDep, user: UserDep, context: ContextDep, device_id: DeviceQuery = None
) -> StreamingResponse:
    """The same as a CSV file, device by device."""
    return await _export(context, user, days, device_id)


async def _answer(context: Context, user: AuthenticatedUser, days: DayRange, device_id: UUID | None) -> Envelope[Analytics]:
    async with context.sessions.begin() as session:
        await check_device(session, user.id, device_id)
        counts = await count_days(session, user.id, days, device_id)
        connected = await count_connected(session, user.id, device_id)
    return success(Analytics.of(counts, connected), "Analytics")


async def _export(context: Context, user: AuthenticatedUser, days: DayRange, device_id: UUID | None) -> StreamingResponse:
    async with context.sessions.begin() as session:
        await check_device(session, user.id, device_id)
    return attach_csv(f"analytics-{days.first}-{days.last}.csv", export_analytics(context.sessions, user.id, days, device_id))
