"""The shapes of sequences in requests and answers."""

from collections.abc import Mapping
from collections.abc import Sequence as Rows
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, Field

from api.campaigns import ANY_DEVICE, Seconds, Strategy
from api.sequence_steps import ShownTime, StepBody, StepView, TimeOrUnset, is_empty
from siaran.lead_fields import NICHE_LENGTH
from siaran.models import DeviceStrategy, Sequence, SequenceStatus, SequenceStep
from siaran.sequence_fields import MAX_DESCRIPTION, MAX_NAME, SequenceChanges
from siaran.sequence_reports import SequenceNumbers
from siaran.sequence_steps import MAX_STEPS

SequenceId = Annotated[UUID, Path(description="Id of the sequence.")]

SequenceTarget = Literal["prospect", "customer", "all"]


def _lower(value: Any) -> Any:
    if is_empty(value):
        return None
    return value.strip().lower() if isinstance(value, str) else value


def _any_for_empty(value: Any) -> Any:
    return ANY_DEVICE if is_empty(value) else value


def _none_for_empty(value: Any) -> Any:
    return None if is_empty(value) else value


Target = Annotated[SequenceTarget | None, BeforeValidator(_lower)]
Status = Annotated[SequenceStatus | None, BeforeValidator(_lower)]
Flag = Annotated[bool | None, BeforeValidator(_none_for_empty)]


class SequenceBody(BaseModel):
    """What a sequence can be given; `null` counts as left out."""

    description: str | None = Field(None, max_length=MAX_DESCRIPTION, description="What it is for; only you see it.")
    niche: str | None = Field(
        None, max_length=NICHE_LENGTH, description="Whole tags, comma-separated: leads with any of them. Empty: every lead."
    )
    target_status: Target = Field(None, description="Which leads: `prospect`, `customer` or `all` (default).")
    status: Status = Field(None, description="`draft` (default), `active`, or `paused`.")
    is_active: Flag = Field(None, description="true: `active`. Counts where `status` is left out or as it was.")
    device_strategy: Strategy = Field(
        None,
        description="`balanced` (default): all devices in turn. `sticky`: the device that has written to the contact before. "
        "`owner`: the lead's own device.",
    )
    time_schedule: TimeOrUnset = Field(
        None,
        description="Clock time in your time zone, HH:MM, of all steps without a time of their own. Empty: none; then Day 1 "
        "goes out at once and the others at the same time of day.",
        examples=["09:00"],
    )
    min_delay_seconds: Seconds = Field(None, description="Shortest gap after a message, 10 by default.")
    max_delay_seconds: Seconds = Field(None, description="Longest gap after a message, 30 by default.")
    leave_on_reply: Flag = Field(None, description="Whether a contact who replies leaves the sequence; false by default.")
    leave_on_opt_out: Flag = Field(None, description="Whether a contact who opts out leaves the sequence; true by default.")

    def wanted_status(self, present: SequenceStatus) -> SequenceStatus | None:
        """The status that is asked for, if it is another one."""
        if self.status is not None and self.status != present:
            return self.status
        if self.is_active is None or self.is_active == (present == SequenceStatus.ACTIVE):
            return None
        return SequenceStatus.ACTIVE if self.is_active else SequenceStatus.PAUSED

    def _changes(
        self, steps: Rows[StepBody] | None, present: SequenceStatus, media: Mapping[int, str | None]
    ) -> SequenceChanges:
        fields = self.model_dump(exclude={"status", "is_active", "steps"})
        wanted = None if steps is None else [step.changes(position, media) for position, step in enumerate(steps)]
        changes = SequenceChanges(**fields, status=self.wanted_status(present), steps=wanted)
        return replace(changes, device_id=None, any_device=True) if changes.device_id == ANY_DEVICE else changes


class NewSequence(SequenceBody):
    """A sequence to create, with its steps."""

    name: str = Field(max_length=MAX_NAME, description="What you call it.", examples=["Promo Merdeka"])
    device_id: Annotated[UUID | None, BeforeValidator(_none_for_empty)] = Field(
        None, description="Send from this device only; left out, from all."
    )
    steps: list[StepBody] | None = Field(
        None, max_length=MAX_STEPS, description="One for each day that has a message; days may be left out."
    )

    def changes(self) -> SequenceChanges:
        """The same for `siaran.sequence_fields`."""
        return self._changes(self.steps or [], SequenceStatus.DRAFT, {})


class SequenceEdit(SequenceBody):
    """What to change; what is left out stays. It counts for everyone who has not passed what it changes."""

    name: str | None = Field(None, max_length=MAX_NAME, description="What you call it.")
    device_id: Annotated[UUID | None, BeforeValidator(_any_for_empty)] = Field(
        None, description="Send from this device only; empty: from all again."
    )
    steps: list[StepBody] | None = Field(
        None,
        max_length=MAX_STEPS,
        description="All steps there shall be. A day that has a step keeps it, changed as told; one not named loses it.",
    )

    def changes(self, present: SequenceStatus, media: Mapping[int, str | None]) -> SequenceChanges:
        """The same for `siaran.sequence_fields`, for a sequence of that status whose steps carry this by day."""
        return self._changes(self.steps, present, media)


class SequenceStats(BaseModel):
    """Contacts and messages of a sequence."""

    total_contacts: int = Field(description="All who are or were in it, but those who were removed.")
    active_contacts: int
    completed_contacts: int
    paused_contacts: int
    left_contacts: int = Field(description="Those who left because they replied or opted out.")
    messages_sent: int = Field(description="Sent, delivered and read.")
    success_rate: float = Field(description="Percent sent of those that were tried and came to an end.")

    @classmethod
    def of(cls, numbers: SequenceNumbers) -> "SequenceStats":
        """The same in the original's words."""
        contacts = numbers.contacts
        return cls(
            total_contacts=contacts.total,
            active_contacts=contacts.active,
            completed_contacts=contacts.completed,
            paused_contacts=contacts.paused,
            left_contacts=contacts.left,
            messages_sent=numbers.messages.success,
            success_rate=numbers.messages.success_rate,
        )


class SequenceView(BaseModel):
    """A sequence with its steps."""

    id: UUID
    user_id: UUID
    device_id: UUID | None = Field(description="The one device it is restricted to, if any.")
    name: str
    description: str
    niche: str
    target_status: SequenceTarget
    status: SequenceStatus
    is_active: bool
    total_days: int = Field(description="Day of the last step.")
    total_steps: int
    step_count: int = Field(description="The same as `total_steps`.")
    time_schedule: ShownTime = Field(description="Clock time in your time zone of the steps without one.")
    min_delay_seconds: int
    max_delay_seconds: int
    device_strategy: DeviceStrategy
    leave_on_reply: bool
    leave_on_opt_out: bool
    contacts_count: int = Field(description="The same as `stats.total_contacts`.")
    steps: list[StepView]
    stats: SequenceStats
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, sequence: Sequence, steps: Rows[SequenceStep], numbers: SequenceNumbers) -> "SequenceView":
        """A sequence's row with its steps and what was counted of it."""
        columns = {name: getattr(sequence, name) for name in cls.model_fields if hasattr(sequence, name)}
        found = {
            "is_active": sequence.status == SequenceStatus.ACTIVE,
            "total_days": max((step.day for step in steps), default=0),
            "total_steps": len(steps),
            "step_count": len(steps),
            "contacts_count": numbers.contacts.total,
            "steps": [StepView.of(step) for step in steps],
            "stats": SequenceStats.of(numbers),
        }
        return cls.model_validate({**columns, **found})
