"""The steps of a sequence: what each day says, edited so that a step that stays keeps its id, and its messages with it."""

from collections.abc import Collection, Iterable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from datetime import datetime, time
from enum import Enum, auto
from uuid import UUID

from sqlalchemy import inspect, update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import FieldError, Invalid
from siaran.media import referenced_id
from siaran.message_types import fit_message_type
from siaran.models import BroadcastMessage, MessageStatus, Sequence, SequenceStep
from siaran.public_addresses import is_web_url
from siaran.rendering import check_template
from siaran.tenancy import select_owned

MAX_STEPS = 400
MAX_DAY = 3_660
MAX_TEXT = 65_536
MAX_DELAY_SECONDS = 86_400

DELAYS = ("min_delay_seconds", "max_delay_seconds")


class Unset(Enum):
    """Takes the place of a value that a field shall not have any more, where None leaves it."""

    UNSET = auto()


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChanges:
    """The step of a day; None leaves a field as that day's step has it, an empty text clears it. Delays are seconds."""

    day: int
    message_type: str | None = None
    content: str | None = None
    media_url: str | None = None
    caption: str | None = None
    send_time: time | Unset | None = None
    min_delay_seconds: int | Unset | None = None
    max_delay_seconds: int | Unset | None = None


@dataclass(frozen=True, slots=True)
class StepEdit:
    """What an edit of the steps did; `moves` says that contacts may be due at other times than before."""

    steps: Rows[SequenceStep]
    changed: bool
    moves: bool


async def set_steps(
    session: AsyncSession, sequence: Sequence, wanted: Rows[StepChanges] | None, now: datetime
) -> tuple[StepEdit, list[FieldError]]:
    """Give a sequence these steps, or check those it has where none are given; returns what is wrong with them too.

    The session must not flush meanwhile. The steps of days that are not named are taken out; what was queued for them and is
    not under way yet is cancelled by `drop_queued`.
    """
    rows = (
        await session.scalars(select_owned(SequenceStep, sequence.user_id).where(SequenceStep.sequence_id == sequence.id))
    ).all()
    present = {step.day: step for step in rows}
    steps = [step for step in sorted(rows, key=lambda step: step.day) if step.deleted_at is None]
    if wanted is None:
        return StepEdit(steps, changed=False, moves=False), _delay_problems(sequence, enumerate(steps))
    errors = _day_problems(wanted)
    kept: dict[int, SequenceStep] = {}
    for position, changes in enumerate(wanted):
        step = present.get(changes.day)
        if step is None:
            step = SequenceStep(
                user_id=sequence.user_id,
                sequence_id=sequence.id,
                day=changes.day,
                message_type="text",
                content="",
                created_at=now,
            )
        elif step.deleted_at is not None:
            _empty(step)
        errors += _prefixed(position, await _set_step(session, step, changes))
        kept[position] = step
    errors += _delay_problems(sequence, kept.items())
    if errors:
        return StepEdit(steps, changed=False, moves=False), errors
    return _carry_out(session, steps, list(kept.values()), now), []


def _carry_out(session: AsyncSession, before: Rows[SequenceStep], kept: Collection[SequenceStep], now: datetime) -> StepEdit:
    days = {step.day for step in kept}
    gone = [step for step in before if step.day not in days]
    for step in gone:
        step.deleted_at = now
    new = [step for step in kept if step not in before]
    changed = [step for step in kept if step not in new and _has_changed(step)]
    moves = bool(gone or new or [step for step in changed if inspect(step).attrs.send_time.history.has_changes()])
    for step in (*new, *changed, *gone):
        step.updated_at = now
    session.add_all(new)
    return StepEdit(sorted(kept, key=lambda step: step.day), changed=bool(gone or new or changed), moves=moves)


def _has_changed(step: SequenceStep) -> bool:
    return any(state.history.has_changes() for state in inspect(step).attrs)


async def drop_queued(session: AsyncSession, sequence: Sequence) -> None:
    """Cancel what was queued for steps that have been taken out; what is being sent right now reaches its own end.

    Messages of sequences are in no counter while they are pending, so none changes.
    """
    gone = select_owned(SequenceStep, sequence.user_id).where(
        SequenceStep.sequence_id == sequence.id, SequenceStep.deleted_at.is_not(None)
    )
    await session.execute(
        update(BroadcastMessage)
        .where(
            BroadcastMessage.user_id == sequence.user_id,
            BroadcastMessage.sequence_id == sequence.id,
            BroadcastMessage.status == MessageStatus.PENDING,
            BroadcastMessage.step_id.in_(gone.with_only_columns(SequenceStep.id)),
        )
        .values(status=MessageStatus.CANCELLED)
        .execution_options(synchronize_session=False)
    )


def field_of(position: int, field: str) -> str:
    """How a field of a step is named in errors."""
    return f"steps.{position}.{field}"


def _prefixed(position: int, errors: Iterable[FieldError]) -> list[FieldError]:
    return [FieldError(field_of(position, error.field), error.reason) for error in errors]


def _empty(step: SequenceStep) -> None:
    """Make a step that had been taken out one without any content, so that nothing of it comes back."""
    step.deleted_at = None
    step.message_type, step.content = "text", ""
    step.media_url = step.caption = step.send_time = step.min_delay_seconds = step.max_delay_seconds = None


async def _set_step(session: AsyncSession, step: SequenceStep, wanted: StepChanges) -> list[FieldError]:
    before = step.media_url
    if wanted.content is not None:
        step.content = wanted.content
    if wanted.caption is not None:
        step.caption = wanted.caption if wanted.caption.strip() else None
    if wanted.media_url is not None:
        step.media_url = wanted.media_url.strip() or None
    for field in ("send_time", *DELAYS):
        if (value := getattr(wanted, field)) is not None:
            setattr(step, field, None if value is UNSET else value)
    errors = _problems(step)
    try:
        step.message_type = await fit_message_type(
            session,
            step.user_id,
            step.media_url,
            present=step.message_type,
            wanted=wanted.message_type,
            is_new=step.media_url != before,
        )
    except Invalid as error:
        errors += error.errors
    return errors


def _problems(step: SequenceStep) -> list[FieldError]:
    errors: list[FieldError] = []
    if not (step.content or step.caption or "").strip() and step.media_url is None:
        errors.append(FieldError("content", "is required where there is no image_url"))
    for field in ("content", "caption"):
        text = getattr(step, field) or ""
        if "\0" in text:
            errors.append(FieldError(field, "contains a NUL character"))
        if len(text) > MAX_TEXT:
            errors.append(FieldError(field, f"must have at most {MAX_TEXT} characters"))
            continue
        try:
            check_template(text, field)
        except Invalid as error:
            errors += error.errors
    if step.media_url is not None and not (is_web_url(step.media_url) or referenced_id(step.media_url)):
        reason = "must begin with https:// or http:// and name a host, or be the /api/media/… of a file of yours"
        errors.append(FieldError("image_url", reason))
    return errors


def _day_problems(wanted: Rows[StepChanges]) -> list[FieldError]:
    if len(wanted) > MAX_STEPS:
        return [FieldError("steps", f"may be {MAX_STEPS} at most")]
    first: dict[int, int] = {}
    errors = []
    for position, step in enumerate(wanted):
        if not 1 <= step.day <= MAX_DAY:
            errors.append(FieldError(field_of(position, "day"), f"must be 1 to {MAX_DAY}"))
        elif step.day in first:
            errors.append(FieldError(field_of(position, "day"), f"is {step.day} like that of steps.{first[step.day]}"))
        first.setdefault(step.day, position)
    return errors


def _delay_problems(sequence: Sequence, steps: Iterable[tuple[int, SequenceStep]]) -> list[FieldError]:
    """What is wrong with the gaps that come out where a step takes one end of its sequence's and sets the other."""
    errors = []
    for position, step in steps:
        own = [field for field in DELAYS if getattr(step, field) is not None]
        out_of_range = [field for field in own if not 0 <= getattr(step, field) <= MAX_DELAY_SECONDS]
        errors += [FieldError(field_of(position, field), f"must be 0 to {MAX_DELAY_SECONDS}") for field in out_of_range]
        shortest, longest = (
            getattr(sequence, field) if getattr(step, field) is None else getattr(step, field) for field in DELAYS
        )
        if own and not out_of_range and shortest > longest:
            reason = f"gives the gap {shortest} to {longest} s: the shortest must not be larger than the longest"
            errors.append(FieldError(field_of(position, own[0]), reason))
    return errors


def media_of(steps: Rows[SequenceStep]) -> dict[int, str | None]:
    """What the step of each day carries."""
    return {step.day: step.media_url for step in steps}


def text_of(step: SequenceStep) -> str:
    """What a step says: its content, else its caption, as the claim takes it."""
    return step.content or step.caption or ""


def ids_of(steps: Iterable[SequenceStep]) -> list[UUID]:
    """The ids of steps."""
    return [step.id for step in steps]
