"""How messages spread over devices, when the last of them will have gone out, and how to say so."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from siaran.forecasts import Forecast, LaneLoad, OpenTimes, Queue
from siaran.quiet_hours import SendingHours

STRIDES = 50_000
"""How many strides the lanes of an estimate share."""

FEWEST_STRIDES = 40
"""How far each lane is played at least."""

HORIZON = timedelta(days=36_525)
"""No estimate reaches further ahead."""


def spread_evenly(messages: int, devices: int) -> list[int]:
    """How many messages each device gets when they are dealt out in turn."""
    if devices == 0:
        return []
    share, rest = divmod(messages, devices)
    return [share + (1 if position < rest else 0) for position in range(devices)]


def finish_times(
    shares: Sequence[tuple[int, LaneLoad]],
    *,
    min_delay_seconds: float,
    max_delay_seconds: float,
    starts_at: datetime,
    now: datetime,
    hours: SendingHours | None = None,
) -> list[datetime | None]:
    """When each device sends the last of its share of a campaign whose first messages may go at `starts_at`.

    None for a device without a share. Without `hours` every hour is open. Raises `ValueError` for hours that never are.
    """
    loads = [(messages, load) for messages, load in shares if messages]
    # Devices that have done nothing yet are alike.
    known: dict[tuple[int, LaneLoad], datetime | None] = dict.fromkeys(loads)
    strides = max(FEWEST_STRIDES, STRIDES // max(1, len(known)))
    open_times = OpenTimes(hours, now)
    for messages, load in known:
        own = Queue(messages, min_delay_seconds, max_delay_seconds)
        finish = Forecast(load, own, now, open_times, strides).finish(starts_at)
        known[messages, load] = datetime.fromtimestamp(min(finish, (now + HORIZON).timestamp()), UTC)
    return [known.get((messages, load)) for messages, load in shares]


def describe_duration(duration: timedelta) -> str:
    """A duration as a person would say it: `about 3.7 hours`."""
    seconds = duration.total_seconds()
    if seconds < 60:
        return "less than a minute"
    if seconds < 90:
        return "about a minute"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} minutes"
    if seconds < 48 * 3_600:
        return f"about {seconds / 3_600:.1f} hours"
    return f"about {seconds / 86_400:.1f} days"
