"""Pacing: the random gap after a message, and caps per device as true sliding windows."""

import random
from array import array
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Caps:
    """How many attempts a device may make in any minute, hour and day."""

    per_minute: int = 20
    per_hour: int = 500
    per_day: int = 5000


class SendWindow:
    """When a device attempted to send during the last day, kept in memory by the host that owns it.

    8 bytes an attempt; rebuilt from the ledger when a host gets the device.
    """

    def __init__(self, attempted_at: Iterable[datetime] = ()) -> None:
        self._times = array("d", sorted(at.timestamp() for at in attempted_at))

    def add(self, at: datetime) -> None:
        """Count an attempt; times must not fall."""
        self._times.append(at.timestamp())

    @property
    def last_at(self) -> datetime | None:
        """The newest attempt."""
        return datetime.fromtimestamp(self._times[-1], UTC) if self._times else None

    def free_at(self, caps: Caps, now: datetime) -> datetime:
        """The earliest instant, not before `now`, at which one more attempt exceeds no cap."""
        self._forget(now)
        free = now.timestamp()
        for cap, span in ((caps.per_minute, MINUTE), (caps.per_hour, HOUR), (caps.per_day, DAY)):
            if len(self._times) >= cap:
                # The attempt `cap` places back has to leave the window first.
                free = max(free, self._times[-cap] + span.total_seconds())
        return datetime.fromtimestamp(free, UTC)

    def _forget(self, now: datetime) -> None:
        gone = bisect_right(self._times, (now - DAY).timestamp())
        # Cut in large pieces: removing from the front moves the rest.
        if gone > 512 or gone == len(self._times):
            del self._times[:gone]


def draw_gap(minimum_seconds: float, maximum_seconds: float, source: random.Random | None = None) -> timedelta:
    """A fresh random gap, evenly distributed between the bounds of the campaign or step of the message before."""
    return timedelta(seconds=(source or random).uniform(minimum_seconds, maximum_seconds))
