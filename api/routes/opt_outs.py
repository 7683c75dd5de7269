"""Opt-outs: who is not written to any more, by their own wish or by hand."""

import asyncio
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from api.attachments import CSV_ANSWER, attach_csv
from api.auth import UserDep
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from api.routes.lead_files import UPLOAD, UploadDep
from siaran.lead_fields import SOURCE_LENGTH as REASON_LENGTH
from siaran.opt_out_files import read_phones
from siaran.opt_outs import (
    OptOutFilter,
    OptOutState,
    add_opt_outs,
    export_opt_outs,
    lift_opt_out,
    list_opt_outs,
)
from siaran.webhook_events import targets_told
from siaran.webhook_signals import nudge_webhooks

router = APIRouter(tags=["opt-outs"])

MOST_PHONES = 5_000
MAX_FILTER = 100

OptOutId = Annotated[int, Path(ge=1, lt=2**63, description="The opt-out's number.")]
Phone = Annotated[str, Field(coerce_numbers_to_str=True)]


class NewOptOuts(BaseModel):
    """Phones that must not be written to any more."""

    phones: list[Phone] = Field(
        min_length=1,
        max_length=MOST_PHONES,
        description=f"Up to {MOST_PHONES:,} numbers in any usual form; one without a country code is of your account's "
        "country. A single number may also be given as `phone`.",
        examples=[["+60 12-345 6789", "0134567890"]],
    )
    reason: str = Field("", description="Why, for your own records; up to 200 characters.", examples=["asked by e-mail"])

    @model_validator(mode="before")
    @classmethod
    def _take_one(cls, values: Any) -> Any:
        if isinstance(values, dict) and "phone" in values and "phones" not in values:
            return {**values, "phones": [values["phone"]]}
        return values


class RefusedPhoneView(BaseModel):
    """A phone that could not be added."""

    model_config = ConfigDict(from_attributes=True)

    phone: str = Field(description="As it was given.")
    reason: str


class AddedView(BaseModel):
    """What became of the phones; each counts once, however often it was given."""

    model_config = ConfigDict(from_attributes=True)

    added: list[str] = Field(description="Opted out now; digits in international form.")
    already: list[str] = Field(description="Had opted out before.")
    invalid: list[RefusedPhoneView] = Field(description="Are no phone numbers.")


class OptOutView(BaseModel):
    """A phone that is not written to, or, once lifted, was not."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    phone: str = Field(description="Digits in international form, without `+`.")
    name: str | None = Field(description="The name of the lead with this phone, if there is one.")
    reason: str = Field(description="The word that the contact replied, or what was noted by hand.")
    source: str = Field(description="`reply` if the contact asked for it, `manual` if it was added by hand.")
    device_id: UUID | None = Field(description="The device that got the reply.")
    device_name: str | None
    campaign_id: int | None = Field(description="The campaign whose message the contact had been sent last.")
    campaign_title: str | None
    confirmed_at: datetime | None = Field(description="When the confirmation was queued; it is sent once.")
    created_at: datetime
    lifted_at: datetime | None = Field(description="Since when the phone may be written to again.")


def read_filter(
    search: Annotated[str, Query(max_length=MAX_FILTER, description="Only phones that contain this.")] = "",
    state: Annotated[OptOutState | None, Query(description="Only those `in_force`, or only those `lifted`.")] = None,
) -> OptOutFilter:
    """The query parameters that choose among opt-outs."""
    return OptOutFilter(phone=search, state=state)


FilterDep = Annotated[OptOutFilter, Depends(read_filter)]


@router.get("/api/opt-outs")
async def get_opt_outs(wanted: FilterDep, paging: PagingDep, user: UserDep, context: ContextDep) -> ListEnvelope[OptOutView]:
    """Who has opted out of your messages, newest first."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        found = await list_opt_outs(
            session, user.id, wanted, limit=paging.fetch, before_id=after[0] if after is not None else None
        )
    page, next_cursor = paging.cut(found, lambda opt_out: (opt_out.id,))
    return listed([OptOutView.model_validate(opt_out) for opt_out in page], next_cursor)


@router.post("/api/opt-outs", status_code=status.HTTP_201_CREATED)
async def create_opt_outs(body: NewOptOuts, user: UserDep, context: ContextDep) -> Envelope[AddedView]:
    """Opt phones out by hand: nothing is sent to them from now on, messages that wait included. None of them is told.

    Numbers that are none are reported in `invalid` while the others are added; where there is no other, the answer is 422.
    """
    async with context.sessions.begin() as session:
        added = await add_opt_outs(session, user.id, body.phones, reason=body.reason, country=user.country, now=context.clock())
    nudge_webhooks(context.temporal, targets_told(session))
    return success(AddedView.model_validate(added), f"{len(added.added):,} of {len(body.phones):,} phones opted out")


@router.post(
    "/api/opt-outs/import", openapi_extra=UPLOAD, response_model=Envelope[AddedView], status_code=status.HTTP_201_CREATED
)
async def import_opt_outs(file: UploadDep, user: UserDep, context: ContextDep) -> Envelope[AddedView]:
    """Opt out the phones in a CSV file with a column `phone`, or in a text file with one a line; up to 100,000.

    An export of another account can be imported; rows that it shows as lifted are left out.
    """
    phones = await asyncio.to_thread(read_phones, file.file)
    async with context.sessions.begin() as session:
        added = await add_opt_outs(
            session,
            user.id,
            phones,
            reason=f"imported from {file.filename or 'a file'}"[:REASON_LENGTH],
            country=user.country,
            now=context.clock(),
        )
    nudge_webhooks(context.temporal, targets_told(session))
    return success(AddedView.model_validate(added), f"{len(added.added):,} of {len(phones):,} phones opted out")


@router.get("/api/opt-outs/export", response_class=StreamingResponse, responses=CSV_ANSWER)
async def export_user_opt_outs(wanted: FilterDep, user: UserDep, context: ContextDep) -> StreamingResponse:
    """Your opt-outs as a CSV file, oldest first, with times in your time zone."""
    return attach_csv("opt-outs.csv", export_opt_outs(context.sessions, user.id, wanted, timezone=user.timezone))


@router.post("/api/opt-outs/{opt_out_id}/lift")
async def lift_one_opt_out(opt_out_id: OptOutId, user: UserDep, context: ContextDep) -> Envelope[OptOutView]:
    """Let a phone be written to again, because its owner has agreed. The row stays; what was suppressed stays unsent."""
    async with context.sessions.begin() as session:
        lifted = await lift_opt_out(session, user.id, opt_out_id, context.clock())
    return success(OptOutView.model_validate(lifted), "Opt-out lifted")
