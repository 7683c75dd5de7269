"""The shapes of the steps of sequences in requests and answers."""

import re
from collections.abc import Mapping
from datetime import time
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, computed_field

from api.campaigns import Kind, MessageType
from siaran.errors import Invalid
from siaran.models import SequenceStep
from siaran.public_addresses import MAX_URL
from siaran.schedule import format_time, parse_time
from siaran.sequence_steps import MAX_DAY, MAX_DELAY_SECONDS, MAX_TEXT, UNSET, StepChanges, Unset, field_of

DayNumber = Annotated[int, Path(ge=1, le=MAX_DAY, description="Day of the step.")]


def is_empty(value: Any) -> bool:
    """Whether a form sent nothing for a field."""
    return isinstance(value, str) and not value.strip()


def _time_or_unset(value: Any) -> Any:
    if is_empty(value):
        return UNSET
    if value is None or isinstance(value, time):
        return value
    try:
        return parse_time(value if isinstance(value, str) else "")
    except Invalid as error:
        raise ValueError(error.errors[0].reason) from error


def _seconds_or_unset(value: Any) -> Any:
    if is_empty(value):
        return UNSET
    if value is None or isinstance(value, Unset):
        return value
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, bool) or not re.fullmatch(r"\d{1,9}", str(text), re.ASCII) or int(text) > MAX_DELAY_SECONDS:
        raise ValueError(f"must be a whole number, 0 to {MAX_DELAY_SECONDS}")
    return int(text)


TimeOrUnset = Annotated[time | Unset | None, BeforeValidator(_time_or_unset, json_schema_input_type=str | None)]
_Seconds = Annotated[int, Field(ge=0, le=MAX_DELAY_SECONDS)]
SecondsOrUnset = Annotated[int | Unset | None, BeforeValidator(_seconds_or_unset, json_schema_input_type=_Seconds | str | None)]
Day = Annotated[int, Field(ge=1, le=MAX_DAY)]
ShownTime = Annotated[time | None, PlainSerializer(lambda value: value and format_time(value), return_type=str | None)]

TEMPLATE = "`{{name}}`, `{{phone}}`, `{{niche}}`, with a fallback `{{name|friend}}`; `{Hi|Hello}` picks one of several."


class StepBody(BaseModel):
    """One day's message. In an edit, what is left out stays as that day's step has it, and an empty text clears it."""

    day: Day | None = Field(None, description="Which day of the contact's walk, from 1; also as `day_number`.")
    day_number: Day | None = Field(None, description="The same as `day`.")
    message_type: Kind = Field(
        None, description="What it goes out as: what the file is unless told otherwise. Any file can go out as a `document`."
    )
    content: str | None = Field(None, max_length=MAX_TEXT, description=f"Text, or caption of the image. {TEMPLATE}")
    image_url: str | None = Field(
        None,
        max_length=MAX_URL,
        description="Image, video or document to send; empty for none. A URL, which is fetched once and kept, or the "
        "`/api/media/…` of a file you uploaded. Also as `media_url`.",
    )
    media_url: str | None = Field(None, max_length=MAX_URL, description="The same as `image_url`.")
    caption: str | None = Field(None, max_length=MAX_TEXT, description="Text of the message where `content` is empty.")
    send_time: TimeOrUnset = Field(
        None,
        description="Clock time in your time zone, HH:MM. Without one: the sequence's `time_schedule`, else the time of Day 1.",
        examples=["09:00"],
    )
    min_delay_seconds: SecondsOrUnset = Field(None, description="Shortest gap after this message; without one the sequence's.")
    max_delay_seconds: SecondsOrUnset = Field(None, description="Longest gap after this message; without one the sequence's.")

    def changes(self, position: int, media: Mapping[int, str | None]) -> StepChanges:
        """The same for `siaran.sequence_steps`; `media` is what the step of each day carries now."""
        day = self.day if self.day is not None else self.day_number
        if day is None:
            raise Invalid.field(field_of(position, "day"), "is required")
        if self.day_number not in {None, day}:
            raise Invalid.field(field_of(position, "day_number"), f"contradicts day ({day})")
        return StepChanges(
            day=day,
            message_type=self.message_type,
            content=self.content,
            media_url=self._media(position, media.get(day)),
            caption=self.caption,
            send_time=self.send_time,
            min_delay_seconds=self.min_delay_seconds,
            max_delay_seconds=self.max_delay_seconds,
        )

    def _media(self, position: int, present: str | None) -> str | None:
        """Who sends back what was read, with one of the two names changed, means the one that was changed."""
        given = [url.strip() for url in (self.image_url, self.media_url) if url is not None]
        new = {url for url in given if url != (present or "")}
        if len(new) > 1:
            raise Invalid.field(field_of(position, "media_url"), "contradicts image_url")
        return new.pop() if new else given[0] if given else None


class StepView(BaseModel):
    """One day's message."""

    id: UUID
    day: int
    message_type: MessageType
    content: str
    media_url: str | None
    caption: str | None
    send_time: ShownTime = Field(description="Clock time in your time zone; `null` where the sequence's counts.")
    min_delay_seconds: int | None
    max_delay_seconds: int | None

    @computed_field(description="The same as `day`.")  # type: ignore[prop-decorator]  # pydantic's documented way
    @property
    def day_number(self) -> int:
        """Another name the original has for it."""
        return self.day

    @computed_field(description="The same as `media_url`.")  # type: ignore[prop-decorator]  # as documented
    @property
    def image_url(self) -> str | None:
        """Another name the original has for it."""
        return self.media_url

    @classmethod
    def of(cls, step: SequenceStep) -> "StepView":
        """A step's row."""
        return cls.model_validate({name: getattr(step, name) for name in cls.model_fields})
