"""Local dates and times become the right instants, also where clocks jump."""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.errors import Invalid
from siaran.schedule import format_time, local_day, parse_date, parse_time, schedule_at, schedule_now, to_instant

KL = "Asia/Kuala_Lumpur"
BERLIN = "Europe/Berlin"
NOW = datetime(2026, 8, 31, 1, 30, 15, 250_000, tzinfo=UTC)  # 09:30:15 in Kuala Lumpur


def test_a_local_time_becomes_an_aware_utc_instant():
    assert to_instant(date(2026, 8, 31), time(9, 0), KL) == datetime(2026, 8, 31, 1, 0, tzinfo=UTC)
    assert to_instant(date(2026, 8, 31), time(9, 0), KL).tzinfo is UTC


def test_the_same_clock_time_is_another_instant_in_summer_and_in_winter():
    assert to_instant(date(2026, 7, 1), time(9, 0), BERLIN).hour == 7
    assert to_instant(date(2026, 12, 1), time(9, 0), BERLIN).hour == 8


def test_a_time_that_the_clocks_skip_moves_on_by_the_skipped_hour():
    skipped = to_instant(date(2026, 3, 29), time(2, 30), BERLIN)
    assert skipped == to_instant(date(2026, 3, 29), time(3, 30), BERLIN) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)


def test_a_time_that_the_clocks_show_twice_means_the_first():
    assert to_instant(date(2026, 10, 25), time(2, 30), BERLIN) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(("text", "expected"), [("09:05", time(9, 5)), ("23:59:59", time(23, 59, 59)), (" 00:00 ", time(0, 0))])
def test_times_are_read_with_and_without_seconds(text, expected):
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text", ["", "9:05", "24:00", "12:60", "09:05:60", "0905", "09:05:00.5", "09:05+08:00", "\uff109:05", "noon"]
)
def test_a_malformed_time_is_refused_by_field(text):
    with pytest.raises(Invalid) as caught:
        parse_time(text)
    assert [error.field for error in caught.value.errors] == ["scheduled_time"]


@pytest.mark.parametrize("text", ["", "20260831", "2026-8-31", "31/08/2026", "2026-02-30", "2026-W01-1", "2026-08-31T09:00"])
def test_a_malformed_date_is_refused_by_field(text):
    with pytest.raises(Invalid) as caught:
        parse_date(text)
    assert [error.field for error in caught.value.errors] == ["campaign_date"]


@given(st.times(timezones=st.none()).map(lambda value: value.replace(microsecond=0)))
def test_a_written_time_reads_back_as_itself(value):
    assert parse_time(format_time(value)) == value


def test_today_without_a_time_is_now():
    schedule = schedule_at(date(2026, 8, 31), None, KL, NOW)
    assert schedule == schedule_now(KL, NOW)
    assert schedule.due_at == NOW.replace(microsecond=0)
    assert schedule.clock_time == time(9, 30, 15)


def test_today_without_a_time_is_now_even_in_the_hour_that_comes_twice():
    now = datetime(2026, 10, 25, 1, 30, tzinfo=UTC)  # the second 02:30 in Berlin
    assert schedule_at(date(2026, 10, 25), None, BERLIN, now).due_at == now


def test_a_later_day_without_a_time_is_that_day_at_this_hour_and_never_at_once():
    schedule = schedule_at(date(2026, 9, 3), None, KL, NOW)
    assert schedule.due_at == NOW.replace(microsecond=0) + timedelta(days=3)


def test_today_is_the_users_today():
    late = datetime(2026, 8, 31, 17, 0, tzinfo=UTC)  # 01:00 on 1 September in Kuala Lumpur
    assert local_day(late, KL) == date(2026, 9, 1)
    with pytest.raises(Invalid, match="in the past"):
        schedule_at(date(2026, 8, 31), None, KL, late)


def test_up_to_a_minute_ago_still_counts_as_now():
    assert schedule_at(date(2026, 8, 31), time(9, 30), KL, NOW).due_at == NOW.replace(second=0, microsecond=0)


@pytest.mark.parametrize(
    ("day", "clock_time", "field"),
    [(date(2026, 8, 31), time(9, 29), "scheduled_time"), (date(2026, 8, 30), time(23, 0), "campaign_date")],
)
def test_the_past_is_refused_and_says_which_field(day, clock_time, field):
    with pytest.raises(Invalid) as caught:
        schedule_at(day, clock_time, KL, NOW)
    assert [error.field for error in caught.value.errors] == [field]
    assert "send_now" in caught.value.detail


@pytest.mark.parametrize("day", [date(2062, 8, 31), date(9999, 12, 31)])
def test_a_slip_in_the_year_is_refused(day):
    with pytest.raises(Invalid, match="campaign_date"):
        schedule_at(day, time(23, 59), "America/Los_Angeles", NOW)


def test_an_unknown_zone_is_refused():
    with pytest.raises(Invalid, match="timezone"):
        to_instant(date(2026, 8, 31), time(9, 0), "Mars/Olympus")
