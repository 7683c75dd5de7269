"""When each step of a contact's walk is due: dates and clock times in the user's zone, turned into instants at the last moment.

The step of day n is due on Day 1's local date plus n - 1 days, and plus the days by which the walk has been put off. Dates are
counted, not hours, so neither a change of the clocks nor the end of a month or year moves anything.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from uuid import UUID

from siaran.schedule import to_instant, zone_of

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class StepTime:
    """The step of a day; `send_time` is its own local clock time, if it has one."""

    step_id: UUID
    day: int
    send_time: time | None = None


@dataclass(frozen=True, slots=True)
class Timetable:
    """The steps of a sequence by day, the clock time of those without their own, and the zone that all of them are in."""

    zone: str
    time_schedule: time | None
    steps: tuple[StepTime, ...]

    @classmethod
    def of(cls, zone: str, time_schedule: time | None, steps: Iterable[StepTime]) -> "Timetable":
        """A timetable from steps in any order."""
        return cls(zone, time_schedule, tuple(sorted(steps, key=lambda step: step.day)))

    @property
    def day_one_clock(self) -> time | None:
        """The clock time of Day 1; None is at once."""
        own = [step.send_time for step in self.steps if step.day == 1]
        return (own[0] if own else None) or self.time_schedule

    def step_after(self, day: int) -> StepTime | None:
        """The first step of a later day."""
        return next((step for step in self.steps if step.day > day), None)

    def position(self, day: int) -> int:
        """How many steps there are up to a day."""
        return sum(step.day <= day for step in self.steps)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a contact stands: Day 1 as a local date and clock time, the days by which later steps are put off, and the last
    day that was queued or skipped."""

    day_one_on: date
    day_one_time: time
    shifted_days: int = 0
    current_day: int = 0


def first_place(table: Timetable, at: datetime, current_day: int = 0) -> Place:
    """The place of a contact who begins at that instant: Day 1 is at the next occurrence of its clock time, else at once."""
    local = at.astimezone(zone_of(table.zone)).replace(tzinfo=None)
    clock = table.day_one_clock
    if clock is None:
        return Place(local.date(), local.time().replace(microsecond=0), current_day=current_day)
    is_over = to_instant(local.date(), clock, table.zone) < at
    return Place(local.date() + DAY if is_over else local.date(), clock, current_day=current_day)


def begins_anew(table: Timetable, place: Place) -> bool:
    """Whether Day 1 has to be looked for again: nothing has gone out yet, and its clock time has been changed."""
    clock = table.day_one_clock
    return _awaits_day_one(table, place) and clock is not None and clock != place.day_one_time


def due_on(place: Place, step: StepTime) -> date:
    """The local date on which a step is due."""
    return place.day_one_on + timedelta(days=step.day - 1 + place.shifted_days)


def due_at(table: Timetable, place: Place, step: StepTime) -> datetime:
    """The instant at which a step is due: at its own clock time, else the sequence's, else that of Day 1."""
    clock = step.send_time or table.time_schedule or place.day_one_time
    return to_instant(due_on(place, step), clock, table.zone)


def put_off(table: Timetable, place: Place, step: StepTime, *, until_at: datetime | None, beyond: datetime | None) -> Place:
    """The place with the least whole days added that put a step not before `until_at` and on a later local date than `beyond`.

    `until_at` is when a paused walk went on; `beyond` is when the message before went out, or goes out at the earliest. A step
    whose time is after both stays where it is. At once stays at once: a Day 1 without a clock time begins at `until_at`.
    """
    if until_at is not None and due_at(table, place, step) < until_at:
        if _awaits_day_one(table, place) and table.day_one_clock is None:
            return first_place(table, until_at)
        late = until_at.astimezone(zone_of(table.zone)).date() - due_on(place, step)
        place = _shifted(place, max(late, timedelta(0)))
        if due_at(table, place, step) < until_at:
            place = _shifted(place, DAY)
    if beyond is not None:
        taken = beyond.astimezone(zone_of(table.zone)).date()
        place = _shifted(place, max(taken + DAY - due_on(place, step), timedelta(0)))
    return place


def _awaits_day_one(table: Timetable, place: Place) -> bool:
    return place.current_day == 0 and bool(table.steps) and table.steps[0].day == 1


def _shifted(place: Place, by: timedelta) -> Place:
    return replace(place, shifted_days=place.shifted_days + by.days)
