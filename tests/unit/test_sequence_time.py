"""When steps are due: clock times in the user's zone, across changes of the clocks, months, years and pauses."""

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from siaran.sequence_time import Place, StepTime, Timetable, begins_anew, due_at, first_place, put_off

KUALA_LUMPUR = "Asia/Kuala_Lumpur"
NEW_YORK = "America/New_York"
NINE = time(9)


def table(zone: str = KUALA_LUMPUR, schedule: time | None = None, **steps: time | None) -> Timetable:
    """A timetable with steps such as `day_2=time(9)`."""
    return Timetable.of(zone, schedule, [StepTime(uuid4(), int(name[4:]), at) for name, at in steps.items()])


def local(
    year: int, month: int, day: int, hour: int = 0, minute: int = 0, *, zone: str = KUALA_LUMPUR, fold: int = 0
) -> datetime:
    return datetime(year, month, day, hour, minute, fold=fold, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def dues(times: Timetable, place: Place) -> list[datetime]:
    """When every step is due, on the user's clock."""
    return [due_at(times, place, step).astimezone(ZoneInfo(times.zone)) for step in times.steps]


def test_day_one_is_the_next_occurrence_of_its_send_time() -> None:
    times = table(day_1=NINE, day_2=None)

    before = first_place(times, local(2026, 3, 2, 8, 59))
    exactly = first_place(times, local(2026, 3, 2, 9))
    after = first_place(times, local(2026, 3, 2, 9, 1))

    assert dues(times, before) == dues(times, exactly) == [local(2026, 3, 2, 9), local(2026, 3, 3, 9)]
    assert dues(times, after) == [local(2026, 3, 3, 9), local(2026, 3, 4, 9)]


def test_day_one_goes_out_at_once_without_a_time_and_the_others_at_its_clock_time() -> None:
    times = table(day_1=None, day_2=None, day_4=time(20, 30))

    place = first_place(times, local(2026, 3, 2, 14, 7))

    assert dues(times, place) == [local(2026, 3, 2, 14, 7), local(2026, 3, 3, 14, 7), local(2026, 3, 5, 20, 30)]


def test_a_step_takes_its_own_time_then_the_sequences_then_day_ones() -> None:
    own = table(schedule=time(10), day_1=time(8), day_2=None, day_3=time(12))
    none = table(day_1=time(8), day_2=None)

    assert dues(own, first_place(own, local(2026, 3, 2))) == [
        local(2026, 3, 2, 8),
        local(2026, 3, 3, 10),
        local(2026, 3, 4, 12),
    ]
    assert dues(none, first_place(none, local(2026, 3, 2)))[1] == local(2026, 3, 3, 8)


def test_midnight_is_a_time_and_not_none() -> None:
    times = table(day_1=time(0), day_2=time(0))

    assert dues(times, first_place(times, local(2026, 3, 2, 0, 1))) == [local(2026, 3, 3), local(2026, 3, 4)]


def test_without_a_step_for_day_one_its_own_day_is_counted_from_the_enrollment() -> None:
    timeless = table(day_3=time(9), day_5=None)
    scheduled = table(schedule=NINE, day_3=None)

    assert dues(timeless, first_place(timeless, local(2026, 3, 2, 14))) == [local(2026, 3, 4, 9), local(2026, 3, 6, 14)]
    assert dues(scheduled, first_place(scheduled, local(2026, 3, 2, 14))) == [local(2026, 3, 5, 9)]


@pytest.mark.parametrize(
    ("first", "second", "third"),
    [
        (date(2026, 1, 30), date(2026, 1, 31), date(2026, 2, 1)),
        (date(2028, 2, 28), date(2028, 2, 29), date(2028, 3, 1)),
        (date(2026, 2, 28), date(2026, 3, 1), date(2026, 3, 2)),
        (date(2026, 12, 31), date(2027, 1, 1), date(2027, 1, 2)),
    ],
)
def test_days_are_counted_across_the_ends_of_months_and_years(first: date, second: date, third: date) -> None:
    times = table(day_1=NINE, day_2=NINE, day_3=NINE)

    place = first_place(times, local(first.year, first.month, first.day))

    assert [due.date() for due in dues(times, place)] == [first, second, third]


def test_a_sequence_of_a_year_keeps_its_days() -> None:
    times = table(day_1=NINE, day_365=NINE, day_366=NINE)

    assert [due.date() for due in dues(times, first_place(times, local(2027, 12, 31)))] == [
        date(2027, 12, 31),
        date(2028, 12, 29),
        date(2028, 12, 30),
    ]


def test_the_clock_time_stays_when_summer_time_begins_and_ends() -> None:
    times = table(NEW_YORK, day_1=NINE, day_2=NINE, day_3=NINE)

    spring = first_place(times, local(2026, 3, 7, zone=NEW_YORK))
    autumn = first_place(times, local(2026, 10, 31, zone=NEW_YORK))

    hours = [timedelta(hours=23), timedelta(hours=24)], [timedelta(hours=25), timedelta(hours=24)]
    for place, between in zip((spring, autumn), hours, strict=True):
        instants = [due_at(times, place, step) for step in times.steps]
        assert [b - a for a, b in pairwise(instants)] == between
        assert {due.time() for due in dues(times, place)} == {NINE}


def test_a_time_that_the_clocks_skip_moves_on_and_one_they_show_twice_is_the_first() -> None:
    times = table(NEW_YORK, day_1=time(2, 30), day_2=time(1, 30))

    gap = first_place(times, local(2026, 3, 8, zone=NEW_YORK))
    assert due_at(times, gap, times.steps[0]) == local(2026, 3, 8, 3, 30, zone=NEW_YORK)

    fold = replace(gap, day_one_on=date(2026, 10, 31))
    assert due_at(times, fold, times.steps[1]) == local(2026, 11, 1, 1, 30, zone=NEW_YORK)
    assert due_at(times, fold, times.steps[1]) != local(2026, 11, 1, 1, 30, zone=NEW_YORK, fold=1)


def test_day_one_in_the_hour_that_is_skipped_is_found_once() -> None:
    times = table(NEW_YORK, day_1=time(2, 30))

    assert first_place(times, local(2026, 3, 8, 3, 15, zone=NEW_YORK)).day_one_on == date(2026, 3, 8)
    assert first_place(times, local(2026, 3, 8, 3, 45, zone=NEW_YORK)).day_one_on == date(2026, 3, 9)


def test_a_pause_puts_what_fell_due_off_by_the_least_whole_days() -> None:
    times = table(day_1=NINE, day_2=NINE, day_3=NINE)
    place = Place(date(2026, 3, 2), NINE, current_day=1)

    early = put_off(times, place, times.steps[1], until_at=local(2026, 3, 5, 8), beyond=None)
    late = put_off(times, place, times.steps[1], until_at=local(2026, 3, 5, 10), beyond=None)

    assert dues(times, early)[1:] == [local(2026, 3, 5, 9), local(2026, 3, 6, 9)]
    assert dues(times, late)[1:] == [local(2026, 3, 6, 9), local(2026, 3, 7, 9)]


def test_a_pause_that_ends_before_the_step_is_due_moves_nothing() -> None:
    times = table(day_1=NINE, day_2=NINE)
    place = Place(date(2026, 3, 2), NINE, current_day=1)

    assert put_off(times, place, times.steps[1], until_at=local(2026, 3, 3, 9), beyond=None) == place
    assert put_off(times, place, times.steps[1], until_at=local(2026, 3, 2, 20), beyond=None) == place


def test_two_pauses_add_up_and_the_same_pause_counts_once() -> None:
    times = table(day_1=NINE, day_2=NINE, day_3=NINE)
    first = put_off(
        times, Place(date(2026, 3, 2), NINE, current_day=1), times.steps[1], until_at=local(2026, 3, 5), beyond=None
    )
    again = put_off(times, first, times.steps[1], until_at=local(2026, 3, 5), beyond=None)

    second = put_off(times, replace(first, current_day=2), times.steps[2], until_at=local(2026, 3, 9), beyond=None)

    assert (first.shifted_days, again, second.shifted_days) == (2, first, 5)
    assert dues(times, second)[2] == local(2026, 3, 9, 9)


def test_a_pause_over_a_change_of_the_clocks_keeps_the_clock_time() -> None:
    times = table(NEW_YORK, day_1=NINE, day_2=NINE)
    place = Place(date(2026, 3, 6), NINE, current_day=1)

    moved = put_off(times, place, times.steps[1], until_at=local(2026, 3, 8, 12, zone=NEW_YORK), beyond=None)

    assert dues(times, moved)[1] == local(2026, 3, 9, 9, zone=NEW_YORK)


def test_a_day_one_without_a_time_goes_out_when_a_paused_contact_goes_on() -> None:
    times = table(day_1=None, day_2=None)
    place = first_place(times, local(2026, 3, 2, 14))

    moved = put_off(times, place, times.steps[0], until_at=local(2026, 3, 5, 17), beyond=None)

    assert dues(times, moved) == [local(2026, 3, 5, 17), local(2026, 3, 6, 17)]


def test_a_step_waits_for_the_day_after_the_message_before_when_that_was_late() -> None:
    times = table(day_1=NINE, day_2=NINE, day_5=NINE)
    place = Place(date(2026, 3, 2), NINE, current_day=1)

    moved = put_off(times, place, times.steps[1], until_at=None, beyond=local(2026, 3, 3, 23, 59))
    far = put_off(times, replace(place, current_day=2), times.steps[2], until_at=None, beyond=local(2026, 3, 4, 12))

    assert dues(times, moved)[1:] == [local(2026, 3, 4, 9), local(2026, 3, 7, 9)]
    assert far.shifted_days == 0, "the fifth day was far enough away"


def test_the_day_of_the_message_before_is_that_of_the_users_calendar() -> None:
    times = table(day_1=time(23, 50), day_2=time(0, 10))
    place = Place(date(2026, 3, 2), time(23, 50), current_day=1)
    after_midnight, before_midnight = local(2026, 3, 3, 0, 1), local(2026, 3, 2, 23, 55)

    assert put_off(times, place, times.steps[1], until_at=None, beyond=before_midnight) == place
    moved = put_off(times, place, times.steps[1], until_at=None, beyond=after_midnight)
    assert dues(times, moved)[1] == local(2026, 3, 4, 0, 10)


def test_a_changed_time_of_day_one_counts_for_who_has_not_had_it() -> None:
    times = table(day_1=time(11), day_2=None)
    waiting, begun = Place(date(2026, 3, 2), NINE), Place(date(2026, 3, 2), NINE, current_day=1)

    assert begins_anew(times, waiting)
    assert not begins_anew(times, begun)
    assert not begins_anew(table(day_1=NINE), waiting)
    assert not begins_anew(table(day_1=None), waiting), "it stays planned as it was"
    assert not begins_anew(table(schedule=time(11), day_3=None), waiting), "days have been counted from there already"
