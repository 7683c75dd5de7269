"""What comes next for a contact of a sequence, decided from what its rows say: nothing here reads or writes any."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from siaran.contracts import StepAction, StepPlan
from siaran.models import EnrollmentStatus
from siaran.schedule import zone_of
from siaran.sequence_time import Place, StepTime, Timetable, begins_anew, due_at, first_place, put_off

LOOK_AGAIN = timedelta(minutes=5)
"""How soon a contact looks again whose next step is due while the message before has not gone out, or no device is linked."""

LOOK_RARELY = timedelta(hours=1)
"""The longest such wait: it grows with what has passed, so that many contacts behind one dead device cost little."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A contact as its rows show it.

    `place` is None before Day 1 has been fixed, and `resumed_at` is when contact or sequence went on last, whichever was
    later. `open_since_at` is when a message of this cycle was due that is pending or claimed, `went_at` when the last one went
    out, and `has_device` says that there is a device to queue for.
    """

    status: EnrollmentStatus
    is_sequence_gone: bool
    is_sequence_active: bool
    table: Timetable
    place: Place | None
    current_day: int = 0
    resumed_at: datetime | None = None
    open_since_at: datetime | None = None
    went_at: datetime | None = None
    has_device: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What comes next, the place that the contact has then, and the step to queue with the instant at which it was due."""

    plan: StepPlan
    place: Place | None
    status: EnrollmentStatus
    step: StepTime | None = None
    due_at: datetime | None = None


def plan_contact(standing: Standing, now: datetime) -> Decision:
    """Queue the step that is due, wait for the next, or end; at most one step, and none before the one before has gone out."""
    table, status = standing.table, standing.status
    if standing.is_sequence_gone or status not in {EnrollmentStatus.ACTIVE, EnrollmentStatus.PAUSED}:
        over = "the sequence is gone" if standing.is_sequence_gone else status.value
        return Decision(_plan(standing, StepAction.END, None, over), standing.place, status)
    if (why := _parked(standing)) is not None:
        return Decision(_plan(standing, StepAction.WAIT, None, why), standing.place, status)
    place = standing.place
    if place is None or begins_anew(table, place):
        place = first_place(table, now, standing.current_day)
    step = table.step_after(place.current_day)
    if step is None:
        return _finish(standing, place, now)
    place = put_off(table, place, step, until_at=standing.resumed_at, beyond=standing.went_at)
    at = due_at(table, place, step)
    if at > now:
        return _wait(standing, place, at, f"next {local_minute(at, table)}")
    if standing.open_since_at is not None:
        return _wait(standing, place, now + look_again(now - at), "the message before has not gone out yet")
    if not standing.has_device:
        return _wait(standing, place, now + look_again(now - at), "no linked device")
    return _queue(standing, place, step, at, now)


def look_again(late: timedelta) -> timedelta:
    """How long to wait before looking again at what is late by so much."""
    return min(max(LOOK_AGAIN, late / 2), LOOK_RARELY)


def local_minute(at: datetime, table: Timetable) -> str:
    """An instant on the user's own clock, for people who read lists of executions."""
    return at.astimezone(zone_of(table.zone)).strftime("%Y-%m-%d %H:%M")


def _parked(standing: Standing) -> str | None:
    if standing.status is EnrollmentStatus.PAUSED:
        return "paused"
    if not standing.is_sequence_active:
        return "the sequence is not active"
    return None if standing.table.steps else "the sequence has no steps"


def _finish(standing: Standing, place: Place, now: datetime) -> Decision:
    """All steps are passed: the walk is over once the last message has gone out."""
    if standing.open_since_at is not None:
        return _wait(standing, place, now + look_again(now - standing.open_since_at), "the last message has not gone out yet")
    plan = _plan(replace(standing, place=place), StepAction.END, None, "completed")
    return Decision(plan, place, EnrollmentStatus.COMPLETED)


def _wait(standing: Standing, place: Place, until_at: datetime, why: str) -> Decision:
    plan = _plan(replace(standing, place=place), StepAction.WAIT, until_at, why)
    return Decision(plan, place, standing.status)


def _queue(standing: Standing, place: Place, step: StepTime, at: datetime, now: datetime) -> Decision:
    table = standing.table
    place = replace(place, current_day=step.day)
    following = table.step_after(step.day)
    if following is None:
        decision = _wait(standing, place, now + LOOK_AGAIN, "the last message is queued")
    else:
        # It cannot go out before now, and the next one not on the same day.
        place = put_off(table, place, following, until_at=None, beyond=now)
        next_at = due_at(table, place, following)
        decision = _wait(standing, place, next_at, f"next {local_minute(next_at, table)}")
    return replace(decision, step=step, due_at=at)


def _plan(standing: Standing, action: StepAction, next_at: datetime | None, why: str) -> StepPlan:
    day = standing.place.current_day if standing.place else standing.current_day
    days = standing.table.steps[-1].day if standing.table.steps else 0
    return StepPlan(action, next_at, day, days, why)
