"""What a sequence says and to whom: creating, editing and copying one."""

from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime, time
from uuid import UUID, uuid4

from sqlalchemy import inspect
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.activity_log import note_sequence
from siaran.audience import EVERY_STATUS
from siaran.errors import FieldError, Invalid, NotFound
from siaran.lead_fields import clean_niche
from siaran.media import find_media, referenced_id
from siaran.models import Device, DeviceStrategy, Sequence, SequenceStatus, SequenceStep, TargetStatus
from siaran.sequence_steps import DELAYS, MAX_DELAY_SECONDS, StepChanges, StepEdit, Unset, drop_queued, set_steps
from siaran.sequences import NO_STEPS, enter_status, get_sequence, steps_of, want_contacts
from siaran.tenancy import get_owned

MAX_NAME = 200
MAX_DESCRIPTION = 10_000
COPY_MARK = " (copy)"

TARGETS = frozenset({*TargetStatus, EVERY_STATUS})
AUDIENCE = frozenset({"niche", "target_status"})

COPIED = (
    "device_id",
    "description",
    "niche",
    "target_status",
    "time_schedule",
    "min_delay_seconds",
    "max_delay_seconds",
    "device_strategy",
    "leave_on_reply",
    "leave_on_opt_out",
)
COPIED_OF_STEPS = (
    "day",
    "message_type",
    "content",
    "media_url",
    "caption",
    "send_time",
    "min_delay_seconds",
    "max_delay_seconds",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceChanges:
    """What to set; None leaves a field as it is, an empty text clears it. Delays are seconds.

    `any_device` lifts a restriction to one device. `steps` are all steps there shall be.
    """

    name: str | None = None
    description: str | None = None
    niche: str | None = None
    target_status: str | None = None
    status: SequenceStatus | None = None
    device_id: UUID | None = None
    any_device: bool = False
    device_strategy: DeviceStrategy | None = None
    time_schedule: time | Unset | None = None
    min_delay_seconds: int | None = None
    max_delay_seconds: int | None = None
    leave_on_reply: bool | None = None
    leave_on_opt_out: bool | None = None
    steps: Rows[StepChanges] | None = None


async def create_sequence(session: AsyncSession, user_id: UUID, wanted: SequenceChanges, *, now: datetime) -> Sequence:
    """A new sequence with its steps, a draft unless told otherwise; raises `Invalid` naming every field that is wrong."""
    sequence = Sequence(
        id=uuid4(),
        user_id=user_id,
        name="",
        description="",
        niche="",
        target_status=EVERY_STATUS,
        status=SequenceStatus.DRAFT,
        min_delay_seconds=10,
        max_delay_seconds=30,
        device_strategy=DeviceStrategy.BALANCED,
        leave_on_reply=False,
        leave_on_opt_out=True,
        created_at=now,
        updated_at=now,
    )
    with session.no_autoflush:
        edit = await _set_fields(session, sequence, wanted, now)
    if wanted.status is not None:
        sequence.status = wanted.status
        sequence.resumed_at = now if wanted.status == SequenceStatus.ACTIVE else None
    session.add(sequence)
    await session.flush()
    note_sequence(session, sequence, "created", status=sequence.status.value, steps=len(edit.steps))
    return sequence


async def edit_sequence(
    session: AsyncSession, user_id: UUID, sequence_id: UUID, wanted: SequenceChanges, *, now: datetime
) -> Sequence:
    """Change what `wanted` names and nothing else; it counts for everyone who has not passed what it changes.

    Raises `Invalid` naming every field that is wrong; then nothing has been changed.
    """
    sequence = await get_sequence(session, user_id, sequence_id, lock=True)
    with session.no_autoflush:
        edit = await _set_fields(session, sequence, wanted, now)
    changed = {state.key for state in inspect(sequence).attrs if state.history.has_changes()}
    if changed & AUDIENCE:
        sequence.enrolled_until_at = None
    if changed or edit.changed:
        sequence.updated_at = now
        note_sequence(session, sequence, "edited", fields=sorted(changed | ({"steps"} if edit.changed else set())))
    if wanted.status is not None and wanted.status != sequence.status:
        await enter_status(session, sequence, wanted.status, now)
    await session.flush()
    if edit.moves or "time_schedule" in changed:
        await want_contacts(session, sequence, now)
    if edit.changed:
        await drop_queued(session, sequence)
    return sequence


async def copy_sequence(
    session: AsyncSession, user_id: UUID, sequence_id: UUID, *, name: str | None = None, now: datetime
) -> Sequence:
    """A draft with the same steps and audience, and no contacts; raises `Invalid` when the file of a step has been deleted."""
    source = await get_sequence(session, user_id, sequence_id)
    steps = (await steps_of(session, user_id, [sequence_id]))[sequence_id]
    for position, step in enumerate(steps):
        if referenced_id(step.media_url) is not None:
            await find_media(session, user_id, step.media_url or "", f"steps.{position}.image_url")
    copy = Sequence(
        user_id=user_id,
        name=_one_line(name or "")[:MAX_NAME] or source.name[: MAX_NAME - len(COPY_MARK)] + COPY_MARK,
        status=SequenceStatus.DRAFT,
        created_at=now,
        updated_at=now,
        **{field: getattr(source, field) for field in COPIED},
    )
    session.add(copy)
    await session.flush()
    for step in steps:
        fields = {field: getattr(step, field) for field in COPIED_OF_STEPS}
        session.add(SequenceStep(user_id=user_id, sequence_id=copy.id, created_at=now, updated_at=now, **fields))
    await session.flush()
    note_sequence(session, copy, "created", copy_of=str(source.id))
    return copy


def _one_line(text: str) -> str:
    return " ".join(text.split())


async def _set_fields(session: AsyncSession, sequence: Sequence, wanted: SequenceChanges, now: datetime) -> StepEdit:
    """Set everything but the status, and raise `Invalid` with all that does not fit together."""
    errors: list[FieldError] = []
    if wanted.name is not None:
        sequence.name = _one_line(wanted.name)
    if wanted.description is not None:
        sequence.description = wanted.description.strip()
    if wanted.niche is not None:
        try:
            sequence.niche = clean_niche(wanted.niche).text
        except Invalid as error:
            errors += error.errors
    if wanted.target_status is not None:
        sequence.target_status = wanted.target_status
    if wanted.time_schedule is not None:
        sequence.time_schedule = None if isinstance(wanted.time_schedule, Unset) else wanted.time_schedule
    for field in ("device_strategy", *DELAYS, "leave_on_reply", "leave_on_opt_out"):
        if (value := getattr(wanted, field)) is not None:
            setattr(sequence, field, value)
    errors += _problems(sequence)
    errors += await _set_device(session, sequence, wanted)
    edit, step_errors = await set_steps(session, sequence, wanted.steps, now)
    errors += step_errors
    will_be = wanted.status or sequence.status
    if will_be == SequenceStatus.ACTIVE and not step_errors and not edit.steps:
        errors.append(FieldError("steps", NO_STEPS))
    if errors:
        raise Invalid(errors)
    return edit


def _problems(sequence: Sequence) -> list[FieldError]:
    errors = []
    if not sequence.name or len(sequence.name) > MAX_NAME:
        errors.append(FieldError("name", f"must have 1 to {MAX_NAME} characters"))
    if len(sequence.description) > MAX_DESCRIPTION:
        errors.append(FieldError("description", f"must have at most {MAX_DESCRIPTION} characters"))
    errors += [
        FieldError(field, "contains a NUL character") for field in ("name", "description") if "\0" in getattr(sequence, field)
    ]
    if sequence.target_status not in TARGETS:
        errors.append(FieldError("target_status", f"must be one of {', '.join(sorted(TARGETS))}"))
    for field in DELAYS:
        if not 0 <= getattr(sequence, field) <= MAX_DELAY_SECONDS:
            errors.append(FieldError(field, f"must be 0 to {MAX_DELAY_SECONDS}"))
    if sequence.min_delay_seconds > sequence.max_delay_seconds:
        reason = f"must not be larger than max_delay_seconds ({sequence.max_delay_seconds})"
        errors.append(FieldError("min_delay_seconds", reason))
    return errors


async def _set_device(session: AsyncSession, sequence: Sequence, wanted: SequenceChanges) -> list[FieldError]:
    if wanted.any_device:
        sequence.device_id = None
    elif wanted.device_id is not None and wanted.device_id != sequence.device_id:
        try:
            await get_owned(session, Device, sequence.user_id, Device.id == wanted.device_id, Device.deleted_at.is_(None))
        except NotFound:
            return [FieldError("device_id", "is no device of yours")]
        sequence.device_id = wanted.device_id
    return []
