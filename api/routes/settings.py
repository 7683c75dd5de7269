"""Settings: what users set for themselves."""

from datetime import time
from uuid import UUID

from fastapi import APIRouter
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_serializer

from api.auth import UserDep
from api.context import ContextDep
from api.envelope import Envelope, success
from siaran.accounts import get_user
from siaran.lanes import wake_lanes
from siaran.opt_out_words import LONGEST_WORD, MOST_WORDS
from siaran.schedule import format_time
from siaran.user_settings import (
    HOLDS_BACK,
    LONGEST_ANSWER,
    MOST_DAYS,
    MOST_MESSAGES,
    MOST_MINUTES,
    SettingValues,
    change_settings,
    waiting_lanes,
)

router = APIRouter(tags=["settings"])

MOST_LISTED = 200


class SettingsView(BaseModel):
    """What a user has set."""

    model_config = ConfigDict(from_attributes=True)

    full_name: str = Field(description="The person's name.")
    timezone: str = Field(description="Time zone in which dates and times are meant and shown.", examples=["Asia/Kuala_Lumpur"])
    country: str = Field(description="Country of phone numbers given without a country code.", examples=["MY"])
    quiet_from: time | None = Field(description="Nothing is sent from this local time on; `null` for no quiet hours.")
    quiet_until: time | None = Field(description="Until this local time, on the next day if it is earlier.")
    sending_weekdays: list[int] = Field(description="Days on which messages are sent; 1 is Monday.")
    contact_limit: int | None = Field(description="Messages that a contact gets at most in `contact_limit_days`; `null`: any.")
    contact_limit_days: int = Field(description="The days over which `contact_limit` counts.")
    opt_out_words: list[str] = Field(description="What a contact may reply to be left alone.")
    opt_out_reply: str = Field(description="Sent once to who opts out; empty for nothing.")
    auto_reply: str | None = Field(
        description="Sent to who writes to a device in a personal chat; empty for nothing, `null` for `WHATSAPP_AUTO_REPLY`."
    )
    auto_reply_minutes: int = Field(description="A contact gets no second automatic reply in so many minutes.")

    @field_serializer("quiet_from", "quiet_until")
    def _as_written(self, value: time | None) -> str | None:
        return format_time(value) if value is not None else None


class SettingsChange(BaseModel):
    """What to change; what is left out stays."""

    full_name: str = Field(
        "", validation_alias=AliasChoices("full_name", "fullname", "fullName"), description="The person's name."
    )
    timezone: str = Field("", description="A name of the IANA time zone database.", examples=["Asia/Kuala_Lumpur"])
    country: str = Field("", description="Two letters, ISO 3166.", examples=["MY"])
    quiet_from: str | None = Field(
        None, description="`HH:MM`, local; `null` here and in `quiet_until` for none.", examples=["21:00"]
    )
    quiet_until: str | None = Field(None, description="`HH:MM`, local; may be earlier than `quiet_from`.", examples=["08:00"])
    sending_weekdays: list[int] = Field([], max_length=MOST_LISTED, description="1 (Monday) to 7 (Sunday), at least one.")
    contact_limit: int | None = Field(None, description=f"1 to {MOST_MESSAGES:,}; `null` for no limit.", examples=[3])
    contact_limit_days: int = Field(0, description=f"1 to {MOST_DAYS}.", examples=[7])
    opt_out_words: list[str] = Field(
        [],
        max_length=MOST_LISTED,
        description=f"1 to {MOST_WORDS} words or short phrases of up to {LONGEST_WORD} characters. A message that consists of "
        "one, whatever its case and punctuation, opts its sender out.",
        examples=[["STOP", "BERHENTI", "UNSUBSCRIBE"]],
    )
    opt_out_reply: str = Field("", description=f"Up to {LONGEST_ANSWER:,} characters, sent as they stand; empty for nothing.")
    auto_reply: str | None = Field(
        None,
        description=f"Up to {LONGEST_ANSWER:,} characters, sent as they stand; empty: none, `null`: the installation's.",
        examples=["Thank you for your message. We are back at 9."],
    )
    auto_reply_minutes: int = Field(0, description=f"1 to {MOST_MINUTES:,}; 1,440 is a day.", examples=[1440])

    def values(self) -> SettingValues:
        """The settings that the request names."""
        named: SettingValues = self.model_dump(exclude_unset=True)  # type: ignore[assignment]  # the same fields
        return named


@router.get("/api/settings")
async def read_settings(user: UserDep, context: ContextDep) -> Envelope[SettingsView]:
    """Your settings."""
    async with context.sessions.begin() as session:
        return success(SettingsView.model_validate(await get_user(session, user.id)), "Your settings")


@router.put("/api/settings")
@router.patch("/api/settings")
async def change_my_settings(body: SettingsChange, user: UserDep, context: ContextDep) -> Envelope[SettingsView]:
    """Change the settings that are given; the others stay as they are. They take effect at the next message."""
    waiting: list[UUID] = []
    async with context.sessions.begin() as session:
        row, changed = await change_settings(session, user.id, body.values())
        view = SettingsView.model_validate(row)
        if changed & HOLDS_BACK:
            waiting = list(await waiting_lanes(session, user.id))
    await wake_lanes(context.sessions, context.temporal, context.redis, waiting)
    return success(view, "Settings saved")
