"""Warm-up: the daily cap of a new device rises step by step, since accounts that begin at full speed are banned."""

from dataclasses import dataclass
from datetime import datetime, timedelta

DAY = timedelta(days=1)

FIRST_DAY = 50
DAILY_STEP = 50
"""The plan a device gets that asks for one without numbers: 50 messages on its first day, 350 on its seventh, 1,000 on its
twentieth. WhatsApp publishes no limits for this: the numbers are a cautious choice of ours."""


@dataclass(frozen=True, slots=True)
class WarmUpChange:
    """Start a device's plan, or change one under way, or (`on=False`) stop it; `None` leaves a number as it is."""

    on: bool = True
    first_day: int | None = None
    daily_step: int | None = None


def daily_cap(
    max_per_day: int, started_at: datetime | None, first_day: int | None, daily_step: int | None, now: datetime
) -> int:
    """How many messages a device may send in any 24 hours at that instant.

    `first_day` during the 24 hours after `started_at`, `daily_step` more in each 24 hours that follow, never more than
    `max_per_day`; that alone without a plan. A plan that has not begun counts as its first day.
    """
    if started_at is None or first_day is None or daily_step is None:
        return max_per_day
    days = max(0, (now - started_at) // DAY)
    return min(max_per_day, first_day + daily_step * days)


def ends_at(max_per_day: int, started_at: datetime, first_day: int, daily_step: int) -> datetime:
    """From when on such a plan holds a device back no more."""
    days = max(0, -(-(max_per_day - first_day) // daily_step))
    return started_at + days * DAY
