"""The daily cap of a device that warms up."""

from datetime import UTC, datetime, timedelta

import pytest

from siaran.warm_up import daily_cap, ends_at

STARTED = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(0, 20), (23.99, 20), (24, 35), (47, 35), (48, 50), (24 * 12, 200), (24 * 400, 200)],
)
def test_the_cap_rises_a_step_every_24_hours_up_to_the_devices_own(hours, expected):
    assert daily_cap(200, STARTED, 20, 15, STARTED + timedelta(hours=hours)) == expected


def test_a_first_day_above_the_devices_own_cap_does_not_lift_it():
    assert daily_cap(10, STARTED, 20, 15, STARTED) == 10


def test_a_plan_that_has_not_begun_counts_as_its_first_day():
    assert daily_cap(200, STARTED, 20, 15, STARTED - timedelta(days=3)) == 20


@pytest.mark.parametrize(("started_at", "first_day", "daily_step"), [(None, 20, 15), (STARTED, None, 15), (STARTED, 20, None)])
def test_without_a_whole_plan_the_devices_own_cap_holds(started_at, first_day, daily_step):
    assert daily_cap(200, started_at, first_day, daily_step, STARTED) == 200


@pytest.mark.parametrize(("max_per_day", "first_day", "daily_step"), [(200, 20, 15), (50, 20, 15), (20, 20, 1), (10, 20, 1)])
def test_a_plan_ends_when_the_cap_reaches_the_devices_own(max_per_day, first_day, daily_step):
    ended = ends_at(max_per_day, STARTED, first_day, daily_step)
    assert daily_cap(max_per_day, STARTED, first_day, daily_step, ended) == max_per_day
    if ended > STARTED:
        assert daily_cap(max_per_day, STARTED, first_day, daily_step, ended - timedelta(seconds=1)) < max_per_day
