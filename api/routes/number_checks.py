"""Whether a number is on WhatsApp, by the path of the original."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, Field

from api.auth import UserDep
from api.context import ContextDep
from api.csrf import refuse_cross_site
from api.envelope import Envelope, success
from api.sending import number_checks
from siaran.devices import get_device
from siaran.number_checks import A_MINUTE, find_online_device
from siaran.recipients import read_recipient

router = APIRouter(tags=["sending"])


class NumberView(BaseModel):
    """What WhatsApp says about a number."""

    is_on_whatsapp: bool = Field(description="Whether it has an account.")
    phone: str = Field(description="The number in international form.", examples=["60123456789"])
    device_id: UUID = Field(description="The device that was asked, or would have been: answers are remembered for a while.")


@router.get(
    "/user/check",
    dependencies=[Depends(refuse_cross_site)],
    responses={429: {"description": f"Above {A_MINUTE} questions a minute of one device."}},
)
async def check_number(
    user: UserDep,
    context: ContextDep,
    phone: Annotated[str, Query(max_length=64, description="One number in any form.", examples=["012-345 6789"])],
    device_id: Annotated[
        UUID | None,
        BeforeValidator(lambda value: value or None),
        Query(description="The device to ask; left out, any that is online."),
    ] = None,
) -> Envelope[NumberView]:
    """Whether a number has a WhatsApp account; many such questions endanger the account that asks, so few are let through."""
    number = read_recipient(phone, user.country)
    async with context.sessions() as session:
        if device_id is None:
            device = await find_online_device(session, user.id)
        else:
            device = await get_device(session, user.id, device_id)
    found = await number_checks(context).has_account(user.id, device.id, number)
    message = "The number is on WhatsApp" if found else "The number is not on WhatsApp"
    return success(NumberView(is_on_whatsapp=found, phone=number, device_id=device.id), message)
