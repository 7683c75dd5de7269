"""When a campaign will be done, against playing every single message through."""

import random
import time as machine_time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siaran.estimates import describe_duration, finish_times, spread_evenly
from siaran.forecasts import Forecast, LaneLoad, OpenTimes, Queue, WarmUp
from siaran.pacing import Caps, SendWindow
from siaran.quiet_hours import EVERY_DAY, SendingHours
from siaran.warm_up import daily_cap

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)  # Monday, 09:00 in Kuala Lumpur
KL = "Asia/Kuala_Lumpur"
NO_CAP = 1_000_000
DEFAULT = Caps()
FREE = LaneLoad(DEFAULT, NOW)
DAYTIME = SendingHours(KL, time(21), time(8))


def estimate(
    load: LaneLoad, own: Queue, starts_at: datetime = NOW, hours: SendingHours | None = None, devices: int = 1
) -> timedelta:
    """What the product says."""
    finishes = finish_times(
        [(own.messages, load)] * devices,
        min_delay_seconds=own.min_delay_seconds,
        max_delay_seconds=own.max_delay_seconds,
        starts_at=starts_at,
        now=NOW,
        hours=hours,
    )
    assert len(finishes) == devices
    assert finishes[0] is not None
    return finishes[0] - NOW


def play(load: LaneLoad, own: Queue, starts_at: datetime = NOW, hours: SendingHours | None = None) -> timedelta:
    """Every message by itself: a drawn delay after each, every cap as a window, every source in turn."""
    draw = random.Random(7)
    queues = [*load.backlog, own]
    left = [queue.messages for queue in queues]
    window = SendWindow(at for at, count in load.attempts for _ in range(count))
    last, turn = max(NOW, load.ready_at), 0
    at = last
    while left[-1]:
        ready = [place for place, count in enumerate(left) if count and (place < len(left) - 1 or last >= starts_at)]
        if not ready:
            last = starts_at
            continue
        turn = next((place for place in ready if place > turn), ready[0])
        at = last
        while True:
            caps, plan = load.caps, load.warm_up
            if plan is not None:
                day = daily_cap(caps.per_day, plan.started_at, plan.first_day, plan.daily_step, at)
                caps = Caps(caps.per_minute, caps.per_hour, day)
            free = window.free_at(caps, at)
            free = hours.next_open_at(free) if hours else free
            if free == at:
                break
            # A cap that rises meanwhile is looked at once an hour.
            at = min(free, at + timedelta(hours=1)) if plan is not None else free
        window.add(at)
        left[turn] -= 1
        queue = queues[turn]
        last = at + timedelta(seconds=max(0.3, draw.uniform(queue.min_delay_seconds, queue.max_delay_seconds)))
    return at - NOW


def play_in_strides(load: LaneLoad, own: Queue, hours: SendingHours | None, strides: int) -> timedelta:
    """What is said with so many strides at hand."""
    return timedelta(seconds=Forecast(load, own, NOW, OpenTimes(hours, NOW), strides).finish(NOW) - NOW.timestamp())


def a_few_less_and_more(own: Queue) -> list[Queue]:
    """At nightfall, or at the end of a day's cap, a few messages more or less cost or save a night: no estimate knows."""
    return [replace(own, messages=max(1, round(own.messages * by) + few)) for by, few in ((0.97, -3), (1.03, 3))]


def by_chance(load: LaneLoad, own: Queue) -> timedelta:
    """By how much one drawing of the delays may differ from another: three standard deviations."""
    variance = sum(queue.variance * min(queue.messages, own.messages) for queue in (*load.backlog, own))
    return timedelta(seconds=3 * sqrt(variance))


def test_ten_thousand_contacts_over_fifteen_devices_take_about_3_7_hours():
    shares = spread_evenly(10_000, 15)
    assert describe_duration(estimate(FREE, Queue(max(shares), 10, 30), devices=15)) == "about 3.7 hours"


def test_messages_are_dealt_out_in_turn():
    assert spread_evenly(10, 3) == [4, 3, 3]
    assert spread_evenly(2, 3) == [1, 1, 0]
    assert spread_evenly(5, 0) == []


def test_each_device_has_its_own_end_and_one_without_messages_has_none():
    shares = [(10, FREE), (0, FREE), (1_000, FREE)]
    finishes = finish_times(shares, min_delay_seconds=20, max_delay_seconds=20, starts_at=NOW, now=NOW)
    assert finishes == [NOW + timedelta(seconds=180), None, NOW + timedelta(seconds=999 * 20)]


def test_caps_bite_where_the_delays_are_short():
    for messages, expected in ((41, timedelta(minutes=2)), (1_001, timedelta(hours=2)), (10_001, timedelta(days=2))):
        said = estimate(FREE, Queue(messages, 0, 0))
        assert expected <= said <= expected + timedelta(minutes=1)


def test_what_a_device_sent_within_the_last_hour_and_day_counts():
    own = Queue(10, 0, 0)
    an_hour = LaneLoad(Caps(NO_CAP, 100, NO_CAP), NOW, ((NOW - timedelta(minutes=20), 100),))
    assert timedelta(minutes=40) <= estimate(an_hour, own) <= timedelta(minutes=41)
    a_day = LaneLoad(Caps(NO_CAP, NO_CAP, 100), NOW, ((NOW - timedelta(hours=20), 95),))
    assert timedelta(hours=4) <= estimate(a_day, own) <= timedelta(hours=4, minutes=1)
    long_gone = LaneLoad(Caps(NO_CAP, 100, NO_CAP), NOW, ((NOW - timedelta(minutes=61), 100),))
    assert estimate(long_gone, own) < timedelta(minutes=1)


def test_a_warming_device_takes_as_many_days_as_its_plan_says():
    load = LaneLoad(DEFAULT, NOW, warm_up=WarmUp(NOW, 50, 50))
    assert estimate(load, Queue(150, 10, 30)) == pytest.approx(timedelta(days=1), rel=0.1)
    assert estimate(load, Queue(500, 10, 30)) == pytest.approx(timedelta(days=3), rel=0.1)


def test_nights_and_weekends_are_waited_out():
    own = Queue(3_000, 10, 30)  # 16 h 40 min
    assert estimate(FREE, own, hours=DAYTIME) == pytest.approx(timedelta(hours=16 + 11, minutes=40), rel=0.01)
    only_mondays = SendingHours(KL, weekdays=frozenset({1}))
    found = estimate(FREE, own, hours=only_mondays)
    assert found == pytest.approx(timedelta(days=6, hours=16, minutes=40), rel=0.01)


def test_a_start_at_night_waits_for_the_morning():
    starts_at = NOW + timedelta(hours=14)  # 23:00
    assert estimate(FREE, Queue(1, 10, 30), starts_at, DAYTIME) == timedelta(hours=23)


def test_another_campaign_on_the_device_takes_turns_until_it_is_done():
    own = Queue(100, 20, 20)
    for others, expected in ((50, 150 * 20), (100, 200 * 20), (10_000, 200 * 20)):
        load = LaneLoad(DEFAULT, NOW, backlog=(Queue(others, 20, 20),))
        assert estimate(load, own).total_seconds() == pytest.approx(expected, rel=0.02)


def test_a_backlog_that_is_done_before_the_start_does_not_matter():
    load = LaneLoad(DEFAULT, NOW, backlog=(Queue(100, 20, 20),))
    starts_at = NOW + timedelta(hours=2)
    assert estimate(load, Queue(11, 20, 20), starts_at) == timedelta(hours=2, seconds=200)


CAPS = st.builds(Caps, st.integers(1, 40), st.integers(20, 600), st.integers(40, 3_000))
DELAYS = st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted)


def queues(most: int) -> st.SearchStrategy[Queue]:
    return st.builds(lambda messages, delays: Queue(messages, *delays), st.integers(1, most), DELAYS)


def histories() -> st.SearchStrategy[tuple[tuple[datetime, int], ...]]:
    ages = st.lists(st.integers(0, 86_000), max_size=20).map(lambda seconds: sorted(seconds, reverse=True))
    return ages.map(lambda seconds: tuple((NOW - timedelta(seconds=age), 1 + age % 7) for age in seconds))


LOADS = st.builds(
    LaneLoad,
    CAPS,
    st.integers(-60, 600).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    histories(),
    st.lists(queues(400), max_size=3).map(tuple),
    st.none()
    | st.builds(
        WarmUp, st.integers(0, 100).map(lambda hours: NOW - timedelta(hours=hours)), st.integers(1, 200), st.integers(1, 200)
    ),
)
HOURS = st.none() | st.builds(
    SendingHours,
    st.just(KL),
    st.sampled_from([time(0), time(12), time(21), time(10, 30)]),
    st.sampled_from([time(0), time(6), time(9, 30), time(14)]),
    st.sampled_from([EVERY_DAY, EVERY_DAY - {6, 7}, frozenset({2})]),
)


@settings(max_examples=60, deadline=None)
@given(load=LOADS, own=queues(600), hours=HOURS, starts=st.sampled_from([0, 0, 3_600, 100_000]))
def test_an_estimate_is_right_within_ten_percent(load, own, hours, starts):
    starts_at = NOW + timedelta(seconds=starts)
    said = estimate(load, own, starts_at, hours)
    fewer, more = a_few_less_and_more(own)
    slack = max(timedelta(minutes=1), by_chance(load, own))
    assert play(load, fewer, starts_at, hours) * 0.9 - slack <= said <= play(load, more, starts_at, hours) * 1.1 + slack


USUAL_LOADS = st.builds(
    LaneLoad,
    st.builds(Caps, st.integers(5, 40), st.integers(100, 600), st.integers(500, 3_000)),
    st.just(NOW),
    histories(),
    st.lists(queues(400), max_size=3).map(tuple),
)


@settings(max_examples=30, deadline=None)
@given(load=USUAL_LOADS, own=queues(1_500), hours=HOURS)
def test_an_estimate_in_few_long_strides_stays_near_that_in_many(load, own, hours):
    """3,000 devices share the strides that 15 have to themselves."""
    fewer, more = a_few_less_and_more(own)
    long = play_in_strides(load, own, hours, 60)
    assert play_in_strides(load, fewer, hours, 10_000) * 0.9 - timedelta(minutes=5) <= long
    assert long <= play_in_strides(load, more, hours, 10_000) * 1.1 + timedelta(minutes=5)


@pytest.mark.parametrize("devices", [15, 3_000])
def test_a_million_messages_are_estimated_at_once(devices):
    def load(number: int) -> LaneLoad:
        sent = tuple((NOW - timedelta(minutes=10 * place, seconds=number), 3) for place in reversed(range(140)))
        return LaneLoad(DEFAULT, NOW, sent, (Queue(100 + number, 5, 9),))

    shares = [(share, load(number)) for number, share in enumerate(spread_evenly(1_000_000, devices))]
    began = machine_time.process_time()
    finishes: Sequence[datetime | None] = finish_times(
        shares, min_delay_seconds=10, max_delay_seconds=30, starts_at=NOW, now=NOW, hours=DAYTIME
    )
    assert machine_time.process_time() - began < 3
    assert None not in finishes


def test_the_smallest_caps_are_estimated_at_once_too():
    load = LaneLoad(Caps(1, 1, 1), NOW)
    began = machine_time.process_time()
    said = estimate(load, Queue(1_000_000, 0, 0), hours=DAYTIME)
    assert machine_time.process_time() - began < 5
    assert said == timedelta(days=36_525)


@pytest.mark.parametrize(
    ("duration", "said"),
    [
        (timedelta(0), "less than a minute"),
        (timedelta(seconds=75), "about a minute"),
        (timedelta(minutes=2), "about 2 minutes"),
        (timedelta(minutes=45), "about 45 minutes"),
        (timedelta(hours=3, minutes=42), "about 3.7 hours"),
        (timedelta(days=3), "about 3.0 days"),
    ],
)
def test_a_duration_is_said_as_a_person_would(duration, said):
    assert describe_duration(duration) == said
