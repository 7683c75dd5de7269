"""One lane played ahead: when a device will have sent its messages, with delays, caps, warm-up, sending hours and backlog.

It is played in strides of several messages, each taking the mean of its delays, so that the number of strides, not of
messages, sets how long a forecast takes.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, erf, exp, floor, pi, sqrt

from siaran.pacing import DAY, HOUR, MINUTE, Caps
from siaran.quiet_hours import SendingHours
from siaran.warm_up import daily_cap

TRANSMISSION_SECONDS = 0.3
"""What one transmission takes; it counts only where the delays are shorter."""

SLIDING = 1.4
"""How much more random delays lose against a sliding window than against one fixed block after another, as played through."""

LONG_ENOUGH = timedelta(days=3 * 365)
"""What is still going on after this long is taken to go on at the same pace."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Messages of one source that wait on a device, and the bounds of the delay after each."""

    messages: int
    min_delay_seconds: float
    max_delay_seconds: float

    @property
    def gap(self) -> float:
        """The mean time between the beginnings of two messages, in seconds."""
        low, high, least = self.min_delay_seconds, self.max_delay_seconds, TRANSMISSION_SECONDS
        if least <= low or low == high:
            return max((low + high) / 2, least)
        if least >= high:
            return least
        return (least * (least - low) + (high * high - least * least) / 2) / (high - low)

    @property
    def variance(self) -> float:
        """Of the delay, in square seconds."""
        return (self.max_delay_seconds - self.min_delay_seconds) ** 2 / 12


@dataclass(frozen=True, slots=True)
class WarmUp:
    """A warm-up plan, as `siaran.warm_up.daily_cap` takes it."""

    started_at: datetime
    first_day: int
    daily_step: int


@dataclass(frozen=True, slots=True)
class LaneLoad:
    """What a device has done and has to do besides the campaign that is estimated.

    `ready_at` is the end of the gap after its last message. `attempts` are those of the last day, oldest first: so many up to
    and including that instant, since the one before. `backlog` takes turns with the campaign.
    """

    caps: Caps
    ready_at: datetime
    attempts: tuple[tuple[datetime, int], ...] = ()
    backlog: tuple[Queue, ...] = ()
    warm_up: WarmUp | None = None


class _Trace:
    """When the lane sent its k-th message: those before now count down from 0, in between lies a straight line."""

    def __init__(self, load: LaneLoad) -> None:
        number = -sum(count for _, count in load.attempts)
        self._numbers: list[float] = []
        self._times: list[float] = []
        for at, count in load.attempts:
            if not self._numbers:
                self._add(number + 1, at.timestamp())
            number += count
            self._add(number, at.timestamp())

    def _add(self, number: float, time: float) -> None:
        if not self._numbers or number > self._numbers[-1]:
            self._numbers.append(number)
            self._times.append(time)

    def extend(self, number: float, time: float) -> None:
        """Note when the newest message goes out."""
        self._add(number, max(time, self._times[-1]) if self._times else time)

    def time_of(self, number: float) -> float:
        """When that message went out; long ago if it is older than what is known."""
        place = bisect_left(self._numbers, number)
        if place == len(self._numbers) or number < self._numbers[0]:
            return float("-inf")
        if place == 0 or self._numbers[place] == number:
            return self._times[place]
        low, high = self._numbers[place - 1], self._numbers[place]
        share = (number - low) / (high - low)
        return self._times[place - 1] + share * (self._times[place] - self._times[place - 1])


class OpenTimes:
    """The spans in which sending is allowed, looked up as far as somebody asks, and shared by all lanes of an estimate."""

    def __init__(self, hours: SendingHours | None, now: datetime) -> None:
        self._hours = hours
        self._until = now
        self._opens: list[float] = []
        self._closes: list[float] = []

    def span_at(self, time: float) -> tuple[float, float]:
        """The beginning and end of the span that holds `time` (seconds of the epoch, not before now), or of the next one."""
        if self._hours is None:
            return float("-inf"), float("inf")
        while not self._closes or self._closes[-1] <= time:
            self._look_further(self._hours)
        place = bisect_left(self._closes, time)
        if self._closes[place] == time:
            place += 1
        return self._opens[place], self._closes[place]

    def _look_further(self, hours: SendingHours) -> None:
        opens_at = hours.next_open_at(self._until)
        closes_at = hours.next_closed_at(opens_at)
        self._opens.append(opens_at.timestamp())
        if closes_at is None:
            self._closes.append(float("inf"))
            return
        self._closes.append(closes_at.timestamp())
        self._until = closes_at


class _Source:
    """A queue on its way: so many messages, or parts of one, are left."""

    def __init__(self, queue: Queue) -> None:
        self.gap = queue.gap
        self.variance = queue.variance
        self.left = float(queue.messages)


class Forecast:
    """A lane from now on, until the last message of one queue of its own, the campaign's, has gone out.

    `strides` bounds the work; where small caps need more, the pace until then is taken to go on.
    """

    def __init__(self, load: LaneLoad, own: Queue, now: datetime, open_times: OpenTimes, strides: int) -> None:
        self._load = load
        self._messages = own.messages
        self._own = _Source(own)
        self._backlog = [_Source(queue) for queue in load.backlog]
        self._trace = _Trace(load)
        self._open = open_times
        self._strides = strides
        self._number = 0.0
        self._earliest = max(now, load.ready_at).timestamp()
        self._last = float("-inf")
        together = own.messages + sum(min(queue.messages, own.messages) for queue in load.backlog)
        # A stride is a fraction of a cap, so that what lies within it does not matter to the window.
        self._smallest = min(load.caps.per_hour, self._cap_of_day(self._earliest))
        self._stride = max(1, min(ceil(together / strides), self._smallest // 4))

    def finish(self, starts_at: datetime) -> float:
        """When the campaign's last message goes out (seconds of the epoch), if its first may at `starts_at`."""
        starts = starts_at.timestamp()
        for _ in range(self._strides):
            active = [source for source in self._backlog if source.left]
            if not active or max(self._last, self._earliest) >= starts:
                break
            self._go(active, starts)
        self._earliest = max(self._earliest, starts)
        for _ in range(self._strides * 2):
            self._go([*(source for source in self._backlog if source.left), self._own], float("inf"))
            if not self._own.left:
                return self._last
            if self._last - self._earliest > LONG_ENOUGH.total_seconds():
                break
        share = 1 - self._own.left / self._messages
        return self._earliest + (self._last - self._earliest) / share

    def _go(self, active: Sequence[_Source], until: float) -> None:
        """Send a stride, each source in turn; one that would end after `until` sends what fits, at least one of each."""
        gap = sum(source.gap for source in active) / len(active)
        variance = sum(source.variance for source in active) / len(active)
        stride = max(self._stride, min(len(active), self._smallest))
        rounds = min(stride / len(active), *(source.left for source in active))
        rounds = min(rounds, max(1.0, (until - max(self._last, self._earliest)) / (gap * len(active))))
        for source in active:
            source.left -= rounds
        count = rounds * len(active)
        self._number += count
        self._last = self._time_of_stride(count, gap, variance)
        self._trace.extend(self._number, self._last)

    def _time_of_stride(self, count: float, gap: float, variance: float) -> float:
        """When the last of `count` messages goes out."""
        caps = self._load.caps
        loss = _loss(caps.per_minute, gap, variance)
        minute = MINUTE.total_seconds() + loss
        gap += loss / caps.per_minute
        if count > caps.per_minute / 2:
            gap = max(gap, minute / caps.per_minute)
        time = self._spread(count, gap)
        time = max(
            time,
            self._trace.time_of(self._number - caps.per_minute) + minute,
            self._trace.time_of(self._number - caps.per_hour) + HOUR.total_seconds(),
        )
        time = self._after_cap_of_day(time)
        return max(time, self._open.span_at(time)[0])

    def _spread(self, count: float, gap: float) -> float:
        """The time of the last of `count` messages that are a gap apart where sending is allowed."""
        time, left = max(self._last + min(count, 1.0) * gap, self._earliest), (count - 1) * gap
        while True:
            opens, closes = self._open.span_at(time)
            time = max(time, opens)
            if time + left < closes:
                return time + max(left, 0.0)
            left -= (floor((closes - time) / gap) + 1) * gap
            time = closes

    def _after_cap_of_day(self, time: float) -> float:
        """The earliest instant from `time` on at which the cap of a day, which may rise meanwhile, allows one more."""
        while True:
            cap = self._cap_of_day(time)
            free = self._trace.time_of(self._number - cap) + DAY.total_seconds()
            if free <= time:
                return time
            time = min(free, self._next_rise(time) if cap < self._load.caps.per_day else free)

    def _cap_of_day(self, time: float) -> int:
        plan, most = self._load.warm_up, self._load.caps.per_day
        if plan is None:
            return most
        return daily_cap(most, plan.started_at, plan.first_day, plan.daily_step, datetime.fromtimestamp(time, UTC))

    def _next_rise(self, time: float) -> float:
        plan, day = self._load.warm_up, DAY.total_seconds()
        if plan is None:
            return float("inf")
        started = plan.started_at.timestamp()
        return started + max(1, floor((time - started) / day) + 1) * day


def _loss(cap: int, gap: float, variance: float) -> float:
    """By how many seconds random delays make `cap` messages last longer than the larger of a minute and their mean.

    A minute in which the delays were short is waited out, one in which they were long is not made up for. Their sum is taken
    to be normally distributed.
    """
    if not variance:
        return 0.0
    minute, mean, spread = MINUTE.total_seconds(), cap * gap, sqrt(cap * variance)
    distance = (mean - minute) / spread
    density = exp(-distance * distance / 2) / sqrt(2 * pi)
    below = (1 + erf(distance / sqrt(2))) / 2
    expected = minute + (mean - minute) * below + spread * density
    return SLIDING * (expected - max(minute, mean))
