"""How long a campaign will take."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.estimates import Caps, campaign_duration, describe_duration, device_duration, spread_evenly

DEFAULT = Caps(20, 500, 5_000)


def exactly(messages: int, caps: Caps, gap: float) -> float:
    """The same by walking through every message: each waits for the gap and for its place in every window."""
    at: list[float] = []
    for number in range(messages):
        earliest = [at[-1] + gap] if at else [0.0]
        for size, window in ((caps.per_minute, 60.0), (caps.per_hour, 3_600.0), (caps.per_day, 86_400.0)):
            if number >= size:
                earliest.append(at[number - size] + window)
        at.append(max(earliest))
    return at[-1] if at else 0.0


def test_ten_thousand_contacts_over_fifteen_devices_take_about_3_7_hours():
    shares = [(share, DEFAULT) for share in spread_evenly(10_000, 15)]
    duration = campaign_duration(shares, min_delay_seconds=10, max_delay_seconds=30)
    assert duration is not None
    assert describe_duration(duration) == "about 3.7 hours"


def test_messages_are_dealt_out_in_turn():
    assert spread_evenly(10, 3) == [4, 3, 3]
    assert spread_evenly(2, 3) == [1, 1, 0]
    assert spread_evenly(5, 0) == []


def test_the_slowest_device_decides():
    shares = [(10, DEFAULT), (1_000, DEFAULT)]
    assert campaign_duration(shares, min_delay_seconds=10, max_delay_seconds=30) == timedelta(seconds=999 * 20)


def test_without_a_device_there_is_no_estimate():
    assert campaign_duration([], min_delay_seconds=10, max_delay_seconds=30) is None


def test_caps_bite_where_the_delays_are_short():
    assert device_duration(41, DEFAULT, min_delay_seconds=0, max_delay_seconds=0) == timedelta(minutes=2)
    assert device_duration(1_001, DEFAULT, min_delay_seconds=0, max_delay_seconds=0) == timedelta(hours=2)
    assert device_duration(10_001, DEFAULT, min_delay_seconds=0, max_delay_seconds=0) == timedelta(days=2)


@pytest.mark.parametrize("gap", [0.0, 1.0, 3.0, 5.0, 20.0])
@pytest.mark.parametrize("messages", [1, 20, 21, 500, 1_234, 6_000])
def test_the_formula_agrees_with_walking_through_every_message(messages, gap):
    formula = device_duration(messages, DEFAULT, min_delay_seconds=gap, max_delay_seconds=gap).total_seconds()
    assert formula == pytest.approx(exactly(messages, DEFAULT, gap), rel=0.02, abs=1)


@given(st.integers(0, 20_000), st.integers(0, 120), st.integers(1, 60), st.integers(1, 1_000), st.integers(1, 10_000))
def test_more_messages_never_take_less_time(messages, gap, minute, hour, day):
    caps = Caps(minute, hour, day)
    fewer = device_duration(messages, caps, min_delay_seconds=gap, max_delay_seconds=gap)
    more = device_duration(messages + 1, caps, min_delay_seconds=gap, max_delay_seconds=gap)
    assert fewer <= more


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
