"""Warm-up: the daily cap of a new device rises step by step, since accounts that begin at full speed are banned."""

from datetime import datetime, timedelta

DAY = timedelta(days=1)


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
