"""How long a campaign will take, from its delays and the caps of its devices."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Caps:
    """How many messages a device may send within any minute, hour and day."""

    per_minute: int
    per_hour: int
    per_day: int


def spread_evenly(messages: int, devices: int) -> list[int]:
    """How many messages each device gets when they are dealt out in turn."""
    if devices == 0:
        return []
    share, rest = divmod(messages, devices)
    return [share + (1 if position < rest else 0) for position in range(devices)]


def device_duration(messages: int, caps: Caps, *, min_delay_seconds: float, max_delay_seconds: float) -> timedelta:
    """How long one device takes from its first message to the start of its last.

    The mean delay lies between two messages; whoever has used up a cap waits until its window is over. Other campaigns on the
    same device, quiet hours and the time a transmission itself takes are not in it.
    """
    if messages <= 1:
        return timedelta(0)
    gap = (min_delay_seconds + max_delay_seconds) / 2

    def within_minute(count: int) -> float:
        windows, rest = divmod(count, caps.per_minute)
        return windows * max(60.0, caps.per_minute * gap) + rest * gap

    def within_hour(count: int) -> float:
        windows, rest = divmod(count, caps.per_hour)
        return windows * max(3_600.0, within_minute(caps.per_hour)) + within_minute(rest)

    windows, rest = divmod(messages - 1, caps.per_day)
    return timedelta(seconds=windows * max(86_400.0, within_hour(caps.per_day)) + within_hour(rest))


def campaign_duration(
    shares: Sequence[tuple[int, Caps]], *, min_delay_seconds: float, max_delay_seconds: float
) -> timedelta | None:
    """How long a campaign takes whose devices send their shares side by side; `None` where no device can send."""
    if not shares:
        return None
    return max(
        device_duration(messages, caps, min_delay_seconds=min_delay_seconds, max_delay_seconds=max_delay_seconds)
        for messages, caps in shares
    )


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
