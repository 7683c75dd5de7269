"""From a date and a clock time in a user's zone to the one instant at which something is due."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from siaran.errors import Invalid

PAST_TOLERANCE = timedelta(minutes=1)
"""A time this little ago still counts as now: forms are filled in by the minute."""

HORIZON = timedelta(days=5 * 366)
"""Nothing is scheduled further ahead; a slip of a digit in the year is refused instead of waiting for ever."""

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{2}:\d{2}(:\d{2})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A local date and clock time, and the instant (aware, UTC) that they mean."""

    day: date
    clock_time: time
    due_at: datetime


def parse_date(value: str, field: str = "campaign_date") -> date:
    """Read `YYYY-MM-DD`; raises `Invalid` naming the field."""
    text = value.strip()
    if not _DATE.fullmatch(text):
        raise Invalid.field(field, "must be a date of the form YYYY-MM-DD")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Invalid.field(field, "is not a day of the calendar") from error


def parse_time(value: str, field: str = "scheduled_time") -> time:
    """Read `HH:MM` or `HH:MM:SS`, 24 hours; raises `Invalid` naming the field."""
    text = value.strip()
    if not _TIME.fullmatch(text):
        raise Invalid.field(field, "must be a time of the form HH:MM or HH:MM:SS")
    try:
        return time.fromisoformat(text)
    except ValueError as error:
        raise Invalid.field(field, "is not a time of the day") from error


def format_time(value: time) -> str:
    """`HH:MM`, or `HH:MM:SS` where there are seconds: what `parse_time` reads."""
    return value.strftime("%H:%M:%S" if value.second else "%H:%M")


def zone_of(name: str) -> ZoneInfo:
    """The zone of that name; raises `Invalid` where there is none."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise Invalid.field("timezone", "is not a time zone") from error


def local_day(now: datetime, zone: str) -> date:
    """The date on the user's calendar at that instant."""
    return now.astimezone(zone_of(zone)).date()


def to_instant(day: date, clock_time: time, zone: str) -> datetime:
    """The UTC instant of a local date and time.

    A time that the clocks skip (02:30 on the night that summer time begins) moves on by the hour that is skipped, to 03:30;
    one that they show twice (on the night that it ends) means the first of the two. Raises `OverflowError` at the ends of
    the calendar.
    """
    return datetime.combine(day, clock_time, tzinfo=zone_of(zone)).replace(fold=0).astimezone(UTC)


def schedule_now(zone: str, now: datetime) -> Schedule:
    """Due at once, to the second."""
    due_at = now.replace(microsecond=0)
    local = due_at.astimezone(zone_of(zone))
    return Schedule(local.date(), local.time(), due_at)


def schedule_at(day: date, clock_time: time | None, zone: str, now: datetime) -> Schedule:
    """When something is due that the user set for a date and perhaps a time; no time means the present clock time.

    So today without a time is now, and next Friday without a time is next Friday at this hour, never at once. Raises `Invalid`
    for more than a minute ago and for more than five years ahead.
    """
    present = schedule_now(zone, now)
    if clock_time is None and day == present.day:
        return present
    wanted = present.clock_time if clock_time is None else clock_time
    try:
        due_at = to_instant(day, wanted, zone)
    except OverflowError as error:
        raise Invalid.field("campaign_date", "is at the end of the calendar") from error
    if due_at < now - PAST_TOLERANCE:
        field = "scheduled_time" if day == present.day else "campaign_date"
        raise Invalid.field(field, f"{day} {format_time(wanted)} ({zone}) is in the past; set send_now to send at once")
    if due_at > now + HORIZON:
        raise Invalid.field("campaign_date", "is more than five years ahead")
    return Schedule(day, wanted, due_at)
