"""When deliveries are tried again, when an address is left alone, and how it asks for it."""

from datetime import timedelta

import pytest

from siaran.contracts import WebhookReach
from siaran.webhook_retries import (
    DOWN_AFTER,
    LONGEST_DELAY,
    LONGEST_HOLD,
    LONGEST_RETRY_AFTER,
    MOST_TRIES,
    Answer,
    after_failure,
    asked_to_wait,
    is_down,
    next_try,
)
from tests.factories import NOW


def middle() -> float:
    return 0.5


def answered(status: int | None, retry_after: str = "") -> Answer:
    return Answer(status, "", "", timedelta(seconds=1), retry_after)


@pytest.mark.parametrize(("status", "is_success"), [(200, True), (204, True), (302, False), (404, False), (500, False)])
def test_only_2xx_is_success(status: int, is_success: bool) -> None:
    assert answered(status).is_success is is_success


def test_no_answer_is_no_success() -> None:
    assert not answered(None).is_success


def test_the_delays_grow_and_end_after_about_a_day() -> None:
    at, delays = NOW, []
    for tries in range(1, MOST_TRIES):
        then = next_try(tries, at, middle)
        assert then is not None
        delays.append(then - at)
        at = then

    assert delays[:3] == [timedelta(seconds=10), timedelta(seconds=30), timedelta(seconds=90)]
    assert delays == sorted(delays)
    assert delays[-1] == LONGEST_DELAY
    assert timedelta(hours=18) < at - NOW < timedelta(hours=30)
    assert next_try(MOST_TRIES, at, middle) is None


def test_chance_spreads_the_tries_of_what_failed_together() -> None:
    early, late = next_try(4, NOW, lambda: 0.0), next_try(4, NOW, lambda: 0.999)
    assert early is not None
    assert late is not None
    assert timedelta(seconds=60) < late - early


def test_an_address_is_down_once_different_deliveries_have_failed_in_a_row() -> None:
    reach = WebhookReach()
    for _ in range(20):
        reach = after_failure(reach, 1, NOW, middle, None)
    assert not is_down(reach), "a single delivery says nothing about the address"
    assert reach.held_until_at is None

    for delivery in range(2, DOWN_AFTER + 1):
        reach = after_failure(reach, delivery, NOW, middle, None)
    assert is_down(reach)
    assert reach.held_until_at == NOW + timedelta(seconds=10)


def test_requests_that_were_under_way_together_make_one_pause() -> None:
    reach = WebhookReach()
    for delivery in range(8):
        reach = after_failure(reach, delivery, NOW, middle, None)
    assert reach.holds == 1
    assert reach.held_until_at == NOW + timedelta(seconds=10)


def test_the_pauses_of_an_address_that_stays_down_grow_to_ten_minutes() -> None:
    failing, pauses = (1, 2, 3), []
    for holds in range(12):
        reach = after_failure(WebhookReach(failing, holds), 1, NOW, middle, None)
        assert reach.held_until_at is not None
        pauses.append(reach.held_until_at - NOW)
    assert pauses[:3] == [timedelta(seconds=10), timedelta(seconds=20), timedelta(seconds=40)]
    assert pauses[-1] == LONGEST_HOLD


@pytest.mark.parametrize(
    ("status", "header", "wait"),
    [
        (429, "30", timedelta(seconds=30)),
        (503, "0", timedelta(seconds=1)),
        (503, "99999999999999999999", LONGEST_RETRY_AFTER),
        (429, "Mon, 02 Mar 2026 01:02:00 GMT", timedelta(minutes=2)),
        (429, "Mon, 02 Mar 2020 01:02:00 GMT", timedelta(seconds=1)),
        (429, "Mon, 02 Mar 2036 01:02:00 GMT", LONGEST_RETRY_AFTER),
        (429, "soon", None),
        (429, "-5", None),
        (503, "Mon, 02 Mar 2026 01:02:00 +99999999999999999999", None),
        (503, "Mon, 02 Mar 99999999999999999999 01:02:00 GMT", None),
        (429, "٣", None),
        (429, "", None),
        (500, "30", None),
        (None, "30", None),
    ],
)
def test_retry_after_is_heeded_within_bounds(status: int | None, header: str, wait: timedelta | None) -> None:
    assert asked_to_wait(answered(status, header), NOW) == wait


def test_an_address_that_asks_for_it_is_left_alone_at_once() -> None:
    reach = after_failure(WebhookReach(), 1, NOW, middle, timedelta(seconds=30))
    assert not is_down(reach)
    assert reach.held_until_at == NOW + timedelta(seconds=30)
    assert next_try(1, NOW, middle, timedelta(minutes=5)) == NOW + timedelta(minutes=5)
