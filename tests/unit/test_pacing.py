"""Caps as sliding windows, against counting by brute force; and the bounds of the random gap."""

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from siaran.pacing import DAY, HOUR, MINUTE, Caps, SendWindow, draw_gap

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
CAPS = st.builds(Caps, per_minute=st.integers(1, 4), per_hour=st.integers(1, 8), per_day=st.integers(1, 16))
STEPS = st.lists(
    st.one_of(st.integers(0, 30), st.integers(0, 1800), st.integers(0, 40_000)).map(lambda number: timedelta(seconds=number)),
    max_size=60,
)


def exceeds(sent: list[datetime], at: datetime, caps: Caps) -> bool:
    """Whether one more attempt at `at` would be more than a cap allows in the span that ends with it."""
    spans = ((caps.per_minute, MINUTE), (caps.per_hour, HOUR), (caps.per_day, DAY))
    return any(sum(at - span < earlier <= at for earlier in sent) + 1 > cap for cap, span in spans)


@given(caps=CAPS, steps=STEPS)
def test_a_device_never_exceeds_a_cap_and_never_waits_longer_than_it_must(caps: Caps, steps: list[timedelta]) -> None:
    window, sent, now = SendWindow(), list[datetime](), NOW
    for step in steps:
        now += step
        free = window.free_at(caps, now)
        assert free >= now
        assert not exceeds(sent, free, caps)
        if free > now:
            assert exceeds(sent, free - timedelta(milliseconds=1), caps)
        now = free
        window.add(now)
        sent.append(now)


@given(caps=CAPS, steps=STEPS)
def test_a_window_rebuilt_from_the_ledger_answers_like_the_one_that_was_lost(caps: Caps, steps: list[timedelta]) -> None:
    window, sent, now = SendWindow(), list[datetime](), NOW
    for step in steps:
        now = window.free_at(caps, now + step)
        window.add(now)
        sent.append(now)
    random.Random(1).shuffle(sent)

    rebuilt = SendWindow(at for at in sent if at > now - DAY)

    assert rebuilt.free_at(caps, now) == window.free_at(caps, now)
    assert rebuilt.last_at == window.last_at


def test_the_usual_caps_let_twenty_go_and_hold_the_next_one_back_for_the_rest_of_the_minute() -> None:
    window = SendWindow(NOW + timedelta(seconds=number) for number in range(20))

    assert window.free_at(Caps(), NOW + timedelta(seconds=30)) == NOW + MINUTE


def test_a_cap_that_was_lowered_holds_from_the_next_message_on() -> None:
    window = SendWindow(NOW + timedelta(seconds=number) for number in range(10))
    now = NOW + timedelta(seconds=10)

    assert window.free_at(Caps(per_minute=20), now) == now
    assert window.free_at(Caps(per_minute=5), now) == NOW + timedelta(seconds=5) + MINUTE


def test_a_new_device_is_free_at_once_and_has_no_last_attempt() -> None:
    window = SendWindow()

    assert window.free_at(Caps(), NOW) == NOW
    assert window.last_at is None


def test_attempts_of_more_than_a_day_ago_are_forgotten() -> None:
    window = SendWindow(NOW + timedelta(seconds=number) for number in range(1000))

    window.free_at(Caps(), NOW + DAY + timedelta(seconds=2000))

    assert window.last_at is None


@given(bounds=st.tuples(st.integers(0, 3600), st.integers(0, 3600)).map(sorted), seed=st.integers())
def test_a_gap_lies_between_its_bounds(bounds: list[int], seed: int) -> None:
    minimum, maximum = bounds

    gap = draw_gap(minimum, maximum, random.Random(seed))

    assert timedelta(seconds=minimum) <= gap <= timedelta(seconds=maximum)


def test_gaps_spread_over_the_whole_range_and_differ() -> None:
    source = random.Random(7)

    gaps = [draw_gap(10, 30, source).total_seconds() for _ in range(2000)]

    assert min(gaps) < 10.5
    assert max(gaps) > 29.5
    assert 19 < sum(gaps) / len(gaps) < 21
    assert len(set(gaps)) > 1900
