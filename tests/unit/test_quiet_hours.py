"""Sending hours open and close by the user's clocks, also where these jump."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.quiet_hours import EVERY_DAY, SendingHours

KL = "Asia/Kuala_Lumpur"
BERLIN = "Europe/Berlin"
NIGHT = SendingHours(KL, time(21), time(8))
NOON = SendingHours(KL, time(12), time(14))
WORKDAYS = frozenset({1, 2, 3, 4, 5})


def utc(month: int, day: int, hour: int, minute: int = 0, second: int = 0) -> datetime:
    return datetime(2026, month, day, hour, minute, second, tzinfo=UTC)


@pytest.mark.parametrize("now", [utc(3, 2, 1), utc(3, 2, 12, 59, 59), utc(3, 2, 0)])
def test_sending_is_allowed_now_outside_the_quiet_hours(now):
    assert NIGHT.is_open(now)
    assert NIGHT.next_open_at(now) is now


@pytest.mark.parametrize("now", [utc(3, 2, 13), utc(3, 2, 16), utc(3, 2, 23, 59, 59)])
def test_a_night_that_crosses_midnight_ends_in_the_morning(now):
    assert not NIGHT.is_open(now)
    assert NIGHT.next_open_at(now) == utc(3, 3, 0)
    assert NIGHT.next_open_at(now).tzinfo is UTC


def test_quiet_hours_within_a_day_end_on_the_same_day():
    assert NOON.next_open_at(utc(3, 2, 4)) == utc(3, 2, 6)
    assert NOON.next_open_at(utc(3, 2, 5, 59, 59)) == utc(3, 2, 6)
    assert NOON.is_open(utc(3, 2, 3, 59, 59))
    assert NOON.is_open(utc(3, 2, 6))


@pytest.mark.parametrize(("start", "end"), [(None, None), (time(9), time(9))])
def test_no_quiet_hours_leave_every_hour_open(start, end):
    hours = SendingHours(KL, start, end)
    assert hours.next_open_at(utc(3, 2, 1)) == utc(3, 2, 1)
    assert hours.next_closed_at(utc(3, 2, 1)) is None


def test_a_day_that_is_not_allowed_is_closed_from_its_midnight_to_the_next():
    hours = SendingHours(KL, weekdays=WORKDAYS)
    friday_midnight = utc(3, 6, 16)  # Saturday 7 March, 00:00 in Kuala Lumpur
    assert hours.is_open(friday_midnight - timedelta(microseconds=1))
    assert hours.next_open_at(friday_midnight) == utc(3, 8, 16)
    assert hours.next_closed_at(utc(3, 2, 1)) == friday_midnight


def test_a_night_and_a_closed_weekend_end_together_on_monday_morning():
    hours = SendingHours(KL, time(21), time(8), WORKDAYS)
    assert hours.next_open_at(utc(3, 6, 13)) == utc(3, 9, 0)


def test_a_night_that_begins_before_an_allowed_day_holds_on_it_too():
    hours = SendingHours(KL, time(21), time(8), frozenset({1}))
    assert hours.next_open_at(utc(3, 1, 17)) == utc(3, 2, 0)  # from Monday, 01:00
    assert hours.next_open_at(utc(3, 2, 13)) == utc(3, 9, 0)  # from Monday, 21:00


def test_one_allowed_day_is_found_a_week_ahead():
    hours = SendingHours(KL, weekdays=frozenset({1}))
    assert hours.next_open_at(utc(3, 2, 16)) == utc(3, 8, 16)


def test_a_quiet_end_that_the_clocks_skip_opens_when_they_have_jumped():
    hours = SendingHours(BERLIN, time(22), time(2, 30))
    assert hours.next_open_at(utc(3, 28, 22)) == utc(3, 29, 1)  # 03:00 in summer time


def test_a_quiet_end_after_a_jump_comes_an_hour_earlier_in_utc():
    hours = SendingHours(BERLIN, time(22), time(8))
    assert hours.next_open_at(utc(3, 27, 22)) == utc(3, 28, 7)
    assert hours.next_open_at(utc(3, 28, 22)) == utc(3, 29, 6)


def test_an_hour_that_comes_twice_is_quiet_twice():
    hours = SendingHours(BERLIN, time(2), time(2, 30))  # 25 October: 02:00 to 03:00 comes twice, from 00:00 UTC on
    assert hours.next_open_at(utc(10, 25, 0, 10)) == utc(10, 25, 0, 30)
    assert hours.is_open(utc(10, 25, 0, 59))
    assert hours.next_open_at(utc(10, 25, 1)) == utc(10, 25, 1, 30)


def test_clocks_that_go_back_to_before_the_quiet_hours_open_again():
    hours = SendingHours(BERLIN, time(2, 30), time(5))
    assert hours.next_open_at(utc(10, 25, 0, 40)) == utc(10, 25, 1)  # 02:00 again
    assert hours.next_open_at(utc(10, 25, 1, 40)) == utc(10, 25, 4)


def test_a_date_that_a_zone_left_out_is_waited_for_a_week_longer():
    hours = SendingHours("Pacific/Apia", weekdays=frozenset({5}))  # Friday 30 December 2011 did not exist there
    opened = hours.next_open_at(datetime(2011, 12, 24, 12, tzinfo=UTC))
    assert opened == datetime(2012, 1, 5, 10, tzinfo=UTC)


def test_hours_that_never_open_are_refused():
    with pytest.raises(ValueError, match="never open"):
        SendingHours(KL, weekdays=frozenset()).next_open_at(utc(3, 2, 1))


HOURS = st.builds(
    SendingHours,
    st.sampled_from([KL, BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca"]),
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    st.times().map(lambda clock: clock.replace(second=0, microsecond=0)),
    st.frozensets(st.sampled_from(sorted(EVERY_DAY)), min_size=1),
)
INSTANTS = st.integers(0, 2 * 366 * 24 * 60).map(lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes))


@given(hours=HOURS, now=INSTANTS)
def test_the_next_opening_and_closing_are_the_first_minute_that_counting_finds(hours, now):
    minutes = (now + timedelta(minutes=number) for number in range(16 * 24 * 60))
    expected = next(at for at in minutes if hours.is_open(at))
    assert hours.next_open_at(now) == expected
    closed = hours.next_closed_at(expected)
    if closed is not None:
        assert not hours.is_open(closed)
        assert hours.is_open(closed - timedelta(microseconds=1))
        middle = expected + (closed - expected) / 2
        assert hours.is_open(middle)
