"""When a user lets messages go out: weekdays and quiet hours on the clock of their own zone."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from math import ceil
from zoneinfo import ZoneInfo

from siaran.schedule import zone_of

EVERY_DAY = frozenset(range(1, 8))

_CHANGES_TO_LOOK_AT = 64
"""Three a day make three weeks: enough to find an allowed weekday even where a zone once left out a whole date."""


@dataclass(frozen=True, slots=True)
class SendingHours:
    """Weekdays (ISO, 1 is Monday) and a range of quiet hours, both read off the clocks of `timezone`.

    A local day that is not in `weekdays` is closed from its midnight to the next. Quiet hours run from `quiet_from` up to, not
    including, `quiet_until`, and cross midnight where the first is the later; equal ones, or None, mean no quiet hours.
    Only what the clocks show counts: in a night that shows an hour twice, that hour is quiet twice or not at all.
    """

    timezone: str
    quiet_from: time | None = None
    quiet_until: time | None = None
    weekdays: frozenset[int] = EVERY_DAY

    def is_open(self, now: datetime) -> bool:
        """Whether a message may go out at that instant."""
        return self._is_open(now.astimezone(zone_of(self.timezone)))

    def next_open_at(self, now: datetime) -> datetime:
        """The earliest instant (UTC), not before `now`, at which a message may go out; `now` itself where that is now.

        Raises `ValueError` where that never comes.
        """
        for at, is_open in self._changes(now):
            if is_open:
                return at
        raise ValueError(f"sending hours that never open: {self}")

    def next_closed_at(self, now: datetime) -> datetime | None:
        """The earliest instant (UTC), not before `now`, at which no message may go out; None where there is none."""
        for at, is_open in self._changes(now):
            if not is_open:
                return at
        return None

    def _changes(self, now: datetime) -> Iterator[tuple[datetime, bool]]:
        """`now` and the instants after it at which sending may begin or end, each with whether it is open from there on."""
        zone, at = zone_of(self.timezone), now
        for _ in range(_CHANGES_TO_LOOK_AT):
            yield at, self._is_open(at.astimezone(zone))
            at = self._next_change(at, zone)

    def _is_open(self, local: datetime) -> bool:
        if local.isoweekday() not in self.weekdays:
            return False
        start, end = self.quiet_from, self.quiet_until
        if start is None or end is None:
            return True
        clock = local.time()
        return not (start <= clock < end) if start <= end else end <= clock < start

    def _next_change(self, at: datetime, zone: ZoneInfo) -> datetime:
        """The next instant at which the clocks show a boundary, or jump."""
        wall = at.astimezone(zone).replace(tzinfo=None)
        midnight = datetime.combine(wall.date(), time())
        boundaries = [datetime.combine(wall.date(), edge) for edge in (self.quiet_from, self.quiet_until) if edge is not None]
        boundaries.append(midnight + timedelta(days=1))
        until = at + (min(edge for edge in boundaries if edge > wall) - wall)
        if until.astimezone(zone).utcoffset() == at.astimezone(zone).utcoffset():
            return until
        return _jump(at, until, zone)


def _jump(after: datetime, until: datetime, zone: ZoneInfo) -> datetime:
    """The instant in (`after`, `until`] at which the zone's offset from UTC changes; that is at a whole second."""
    before = after.astimezone(zone).utcoffset()
    low, high = int(after.timestamp()), ceil(until.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)
