"""Leads: create, list, look at, change and delete them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Path, Query, status
from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, computed_field, field_validator
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import UserDep
from api.context import Context, ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import Paging, PagingDep
from api.sequence_signals import signal_new_leads
from siaran.devices import get_device
from siaran.leads import (
    LeadFilter,
    LeadValues,
    add_lead,
    change_lead,
    delete_lead,
    get_lead,
    list_leads,
)
from siaran.models import Lead, TargetStatus
from siaran.niche_counts import read_niche_counts
from siaran.opt_outs import find_opt_outs

router = APIRouter(tags=["leads"])

MAX_FILTER = 1_000

LeadId = Annotated[int, Path(ge=1, lt=2**63, description="The lead's number.")]
DeviceId = Annotated[UUID, Path(description="One of your devices.")]


class LeadChange(BaseModel):
    """What to change of a lead; what is left out stays."""

    name: str = Field("", description="The contact's name, up to 200 characters.", examples=["Siti Aminah"])
    phone: str = Field(
        "",
        coerce_numbers_to_str=True,
        description="The phone number in any usual form; one without a country code is of your account's country.",
        examples=["+60 12-345 6789"],
    )
    niche: str = Field("", description="One or several tags, separated by commas.", examples=["EXSTART,ITADRESS"])
    target_status: str = Field(
        "",
        validation_alias=AliasChoices("target_status", "status"),
        description="`prospect` or `customer`; `prospect` unless given. Also accepted as `status`.",
        examples=["prospect"],
    )
    additional_note: str = Field(
        "",
        validation_alias=AliasChoices("additional_note", "journey", "notes"),
        description="A note, up to 10,000 characters. Also accepted as `journey` or `notes`.",
    )
    device_id: UUID | None = Field(None, description="The device that the lead belongs to, one of yours; `null` for none.")
    consent_source: str | None = Field(None, description="Where the contact agreed to be written to.")
    consent_at: AwareDatetime | None = Field(None, description="When the contact agreed.")

    @field_validator("device_id", mode="before")
    @classmethod
    def _no_device(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("niche", "additional_note", mode="before")
    @classmethod
    def _nothing(cls, value: object) -> object:
        return "" if value is None else value

    def values(self) -> LeadValues:
        """The fields that the request names; a status left empty counts as not named."""
        named: LeadValues = self.model_dump(exclude_unset=True)  # type: ignore[assignment]  # the same fields
        if not named.get("target_status", "").strip():
            named.pop("target_status", None)
        return named


class NewLead(LeadChange):
    """A lead to add."""

    name: str = Field(description="The contact's name, up to 200 characters.", examples=["Siti Aminah"])
    phone: str = Field(
        coerce_numbers_to_str=True,
        description="The phone number in any usual form; one without a country code is of your account's country.",
        examples=["+60 12-345 6789"],
    )


class LeadView(BaseModel):
    """A lead."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    user_id: UUID
    device_id: UUID | None
    name: str
    phone: str = Field(description="Digits in international form, without `+`.")
    niche: str = Field(description="The tags as written.")
    niches: list[str] = Field(description="The tags, apart and in upper case.")
    target_status: TargetStatus
    journey: str = Field(description="The same as `additional_note`, for callers of the original.")
    status: str
    source: str = Field(description="Where the lead came from, such as `manual` or `import`.")
    consent_source: str | None
    consent_at: datetime | None
    created_at: datetime
    updated_at: datetime
    last_interaction: datetime | None = Field(description="When the contact wrote last.")
    opted_out_at: datetime | None = Field(None, description="Since when the contact is not written to any more.")

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated properties
    @property
    def additional_note(self) -> str:
        """The note."""
        return self.journey


class NicheView(BaseModel):
    """A tag and how many leads carry it."""

    model_config = ConfigDict(from_attributes=True)

    niche: str
    leads: int


class DeletedLead(BaseModel):
    """A lead that is gone."""

    id: int


def read_filter(
    target_status: Annotated[TargetStatus | None, Query(description="Only leads with this status.")] = None,
    niche: Annotated[
        str, Query(max_length=MAX_FILTER, description="Only leads with one of these whole tags, comma-separated.")
    ] = "",
    search: Annotated[str, Query(max_length=MAX_FILTER, description="Only leads whose name or phone contains this.")] = "",
    opted_out: Annotated[bool | None, Query(description="Only leads who have opted out, or only the others.")] = None,
) -> LeadFilter:
    """The query parameters that choose among leads."""
    return LeadFilter(target_status=target_status, niche=niche, text=search, opted_out=opted_out)


FilterDep = Annotated[LeadFilter, Depends(read_filter)]


def read_any_device_filter(
    wanted: FilterDep, device_id: Annotated[UUID | None, Query(description="Only leads of this device.")] = None
) -> LeadFilter:
    """The query parameters that choose among leads of all devices and of none."""
    return replace(wanted, device_id=device_id)


AnyDeviceFilterDep = Annotated[LeadFilter, Depends(read_any_device_filter)]


@router.post("/api/leads", status_code=status.HTTP_201_CREATED)
async def create_lead(body: NewLead, user: UserDep, context: ContextDep, afterwards: BackgroundTasks) -> Envelope[LeadView]:
    """Add a lead, which active sequences that match enroll. A phone that another of your leads has is refused with 409."""
    async with context.sessions.begin() as session:
        lead = await add_lead(session, user.id, body.values(), country=user.country, now=context.clock())
        [view] = await _view(session, user.id, [lead])
    afterwards.add_task(signal_new_leads, context, user.id)
    return success(view, "Lead created")


@router.get("/api/leads")
async def get_leads(
    wanted: AnyDeviceFilterDep, paging: PagingDep, user: UserDep, context: ContextDep
) -> ListEnvelope[LeadView]:
    """Your leads, newest first."""
    return await _page(wanted, paging, user.id, context)


@router.get("/api/leads/niches")
async def get_niches(user: UserDep, context: ContextDep) -> Envelope[list[NicheView]]:
    """All tags of your leads in alphabetical order, with how many carry each; of very many leads, up to half a minute ago."""
    counts = await read_niche_counts(context.sessions, context.redis, user.id)
    return success([NicheView.model_validate(count) for count in counts])


@router.get("/api/devices/{device_id}/leads")
async def get_device_leads(
    device_id: DeviceId, wanted: FilterDep, paging: PagingDep, user: UserDep, context: ContextDep
) -> ListEnvelope[LeadView]:
    """The leads of one of your devices, newest first."""
    async with context.sessions.begin() as session:
        await get_device(session, user.id, device_id)
    return await _page(replace(wanted, device_id=device_id), paging, user.id, context)


@router.get("/api/leads/{lead_id:int}")
async def show_lead(lead_id: LeadId, user: UserDep, context: ContextDep) -> Envelope[LeadView]:
    """One of your leads."""
    async with context.sessions.begin() as session:
        [view] = await _view(session, user.id, [await get_lead(session, user.id, lead_id)])
    return success(view)


@router.put("/api/leads/{lead_id:int}")
@router.patch("/api/leads/{lead_id:int}")
async def edit_lead(
    lead_id: LeadId, body: LeadChange, user: UserDep, context: ContextDep, afterwards: BackgroundTasks
) -> Envelope[LeadView]:
    """Change the fields that are given; the others stay as they are. Active sequences that it matches now enroll it."""
    async with context.sessions.begin() as session:
        lead = await change_lead(session, user.id, lead_id, body.values(), country=user.country, now=context.clock())
        [view] = await _view(session, user.id, [lead])
    afterwards.add_task(signal_new_leads, context, user.id)
    return success(view, "Lead updated")


@router.delete("/api/leads/{lead_id:int}")
async def remove_lead(lead_id: LeadId, user: UserDep, context: ContextDep) -> Envelope[DeletedLead]:
    """Delete a lead; the messages sent to it stay in the reports."""
    async with context.sessions.begin() as session:
        await delete_lead(session, user.id, lead_id)
    return success(DeletedLead(id=lead_id), "Lead deleted")


async def _page(wanted: LeadFilter, paging: Paging, user_id: UUID, context: Context) -> ListEnvelope[LeadView]:
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        leads = await list_leads(
            session, user_id, wanted, limit=paging.fetch, before_id=after[0] if after is not None else None
        )
        page, next_cursor = paging.cut(leads, lambda lead: (lead.id,))
        return listed(await _view(session, user_id, page), next_cursor)


async def _view(session: AsyncSession, user_id: UUID, leads: Sequence[Lead]) -> list[LeadView]:
    """The leads as their user sees them, with who of them has opted out."""
    opted_out = await find_opt_outs(session, user_id, [lead.phone for lead in leads])
    return [LeadView.model_validate(lead).model_copy(update={"opted_out_at": opted_out.get(lead.phone)}) for lead in leads]
