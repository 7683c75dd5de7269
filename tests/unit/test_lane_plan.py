"""What a lane does next, for everything its rows can say."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

import pytest

from siaran.contracts import LaneAction, LaneCheck, LanePlan, SliceEnd
from siaran.lane_standing import (
    LOOK_AGAIN,
    LOOK_RARELY,
    NEW_CHATS_HELD,
    NEXT_DUE,
    QUIET_HOURS,
    RECONNECTING,
    LaneStanding,
    plan_lane,
)
from siaran.models import DeviceStatus
from siaran.quiet_hours import SendingHours

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
READY = LaneStanding(
    device_status=DeviceStatus.ONLINE,
    is_gone=False,
    has_live_host=True,
    offline_since_at=None,
    restricted_until_at=None,
    is_paused=False,
    has_pending=True,
    has_claimed=False,
    next_due_at=NOW - MINUTE,
    can_move=True,
)
"""A lane with due messages, whose device can send, and whose owner has others that can."""

AWAY = replace(READY, device_status=DeviceStatus.OFFLINE, offline_since_at=NOW - 2 * MINUTE)
"""The same, away for longer than the minute after which messages move."""


def plan(standing: LaneStanding, ended: SliceEnd | None = None, next_at: datetime | None = None) -> LanePlan:
    return plan_lane(standing, LaneCheck(UUID(int=1), UUID(int=2), ended, next_at), NOW, MINUTE)


def wait(why: str, until_at: datetime | None = None) -> LanePlan:
    return LanePlan(LaneAction.WAIT, why, until_at)


def test_a_lane_with_nothing_pending_or_claimed_ends() -> None:
    assert plan(replace(READY, has_pending=False, next_due_at=None)) == LanePlan(LaneAction.END)


@pytest.mark.parametrize("ended", [None, SliceEnd.DRAINED, SliceEnd.WINDOW, SliceEnd.PAUSED, SliceEnd.RESTRICTED])
def test_a_lane_with_due_messages_sends(ended: SliceEnd | None) -> None:
    assert plan(READY, ended) == LanePlan(LaneAction.SEND)


def test_a_lane_that_the_user_has_stopped_waits_whatever_its_device_does() -> None:
    for standing in (READY, AWAY, replace(AWAY, device_status=DeviceStatus.BANNED)):
        assert plan(replace(standing, is_paused=True)) == wait("stopped by the user", NOW + LOOK_RARELY)


def test_a_lane_of_a_deactivated_user_waits() -> None:
    assert plan(replace(AWAY, is_user_inactive=True)) == wait("account deactivated", NOW + LOOK_AGAIN)


def test_a_lane_whose_campaigns_are_all_paused_waits_and_looks_again_now_and_then() -> None:
    assert plan(replace(READY, next_due_at=None)) == wait("campaign paused", NOW + LOOK_RARELY)
    assert plan(replace(AWAY, next_due_at=None)) == wait("campaign paused", NOW + LOOK_RARELY)


def test_a_lane_sleeps_until_its_next_message_is_due() -> None:
    assert plan(replace(READY, next_due_at=NOW + MINUTE)) == wait("next message due", NOW + MINUTE)


def test_a_message_that_is_due_this_instant_is_sent() -> None:
    assert plan(replace(READY, next_due_at=NOW)) == LanePlan(LaneAction.SEND)


def test_a_lane_waits_out_the_cap_of_its_device() -> None:
    assert plan(READY, SliceEnd.CAP, NOW + MINUTE) == wait("cap of the device", NOW + MINUTE)
    assert plan(READY, SliceEnd.CAP, NOW) == LanePlan(LaneAction.SEND)


@pytest.mark.parametrize("ended", [SliceEnd.OFFLINE, SliceEnd.FENCED])
def test_a_lane_whose_host_could_not_send_gives_the_rows_time_to_say_so(ended: SliceEnd) -> None:
    assert plan(READY, ended) == wait("connection", NOW + RECONNECTING)
    assert plan(replace(READY, has_claimed=True), ended) == wait("connection", NOW + RECONNECTING)


@pytest.mark.parametrize(
    "held_back",
    [
        {},
        {"is_paused": True},
        {"next_due_at": None},
        {"has_pending": False, "next_due_at": None},
        {"next_due_at": NOW + MINUTE},
        {"restricted_until_at": NOW + MINUTE},
        {"is_user_inactive": True},
    ],
    ids=str,
)
def test_a_claimed_row_is_settled_first_whatever_else_holds_the_lane_back(held_back: dict[str, object]) -> None:
    """Settling transmits nothing, and a campaign cannot end before it."""
    assert plan(replace(READY, has_claimed=True, **held_back)) == LanePlan(LaneAction.SEND)  # type: ignore[arg-type]  # fields


@pytest.mark.parametrize("status", [DeviceStatus.OFFLINE, DeviceStatus.BANNED])
def test_a_claimed_row_of_a_device_that_is_away_waits_for_it_or_for_the_sweep(status: DeviceStatus) -> None:
    standing = replace(AWAY, device_status=status, has_claimed=True, has_pending=False, next_due_at=None)

    assert plan(standing) == wait(f"device {status.value}", NOW + LOOK_AGAIN)


def test_messages_of_a_device_that_has_been_away_long_enough_move() -> None:
    assert plan(AWAY) == LanePlan(LaneAction.FAIL_OVER, "device offline")
    assert plan(replace(AWAY, offline_since_at=NOW - MINUTE)) == LanePlan(LaneAction.FAIL_OVER, "device offline")


def test_messages_of_a_device_that_has_just_gone_stay_until_the_minute_is_over() -> None:
    gone_at = NOW - timedelta(seconds=10)

    assert plan(replace(AWAY, offline_since_at=gone_at)) == wait("device offline", gone_at + MINUTE)


def test_a_device_that_is_connecting_is_away_too() -> None:
    standing = replace(AWAY, device_status=DeviceStatus.CONNECTING)

    assert plan(standing) == LanePlan(LaneAction.FAIL_OVER, "device connecting")


def test_a_device_whose_host_has_just_died_has_its_minute() -> None:
    assert plan(replace(READY, has_live_host=False)) == wait("device offline", NOW + MINUTE)


def test_a_device_that_was_never_online_gives_its_messages_away_at_once() -> None:
    assert plan(replace(AWAY, offline_since_at=None)).action is LaneAction.FAIL_OVER


@pytest.mark.parametrize("status", [DeviceStatus.BANNED, DeviceStatus.LOGGED_OUT])
def test_a_device_that_will_not_come_back_gives_its_messages_away_at_once(status: DeviceStatus) -> None:
    standing = replace(READY, device_status=status, offline_since_at=NOW)

    assert plan(standing).action is LaneAction.FAIL_OVER


def test_a_removed_device_gives_its_messages_away_and_what_nobody_else_may_send_up() -> None:
    removed = replace(READY, is_gone=True, is_deleted=True)

    assert plan(removed) == LanePlan(LaneAction.FAIL_OVER, "device removed")
    for standing in (
        replace(removed, can_move=False, has_bound=True),
        replace(removed, can_move=False, has_bound=True, is_paused=True),
        replace(removed, can_move=False, has_bound=True, next_due_at=None),
    ):
        assert plan(standing) == LanePlan(LaneAction.FAIL_OVER, "device removed")
    assert plan(replace(removed, can_move=False)) == wait("device removed", NOW + LOOK_AGAIN)


def test_a_restricted_device_goes_on_with_chats_it_has_and_gives_new_ones_away() -> None:
    restricted = replace(READY, restricted_until_at=NOW + MINUTE)

    assert plan(restricted) == LanePlan(LaneAction.SEND)
    assert plan(replace(restricted, opens_new_chat=True)) == LanePlan(LaneAction.FAIL_OVER, NEW_CHATS_HELD)


def test_a_restricted_device_whose_messages_are_all_put_off_says_why_it_waits() -> None:
    put_off = replace(READY, restricted_until_at=NOW + MINUTE, next_due_at=NOW + MINUTE)

    assert plan(put_off) == wait(NEW_CHATS_HELD, NOW + MINUTE)
    prolonged = replace(put_off, next_due_at=NOW + MINUTE / 2)
    assert plan(prolonged) == wait(NEW_CHATS_HELD, NOW + MINUTE / 2), "or its campaign would take it for forgotten"
    assert plan(replace(put_off, next_due_at=NOW + 2 * MINUTE)) == wait(NEXT_DUE, NOW + 2 * MINUTE)


def test_in_quiet_hours_a_lane_waits_for_their_end_or_its_next_one_off_message() -> None:
    # Nine in the morning in Kuala Lumpur.
    quiet = replace(READY, hours=SendingHours("Asia/Kuala_Lumpur", time(20), time(10)))
    hour = timedelta(hours=1)

    assert plan(quiet) == wait(QUIET_HOURS, NOW + hour)
    assert plan(replace(quiet, next_one_off_at=NOW + MINUTE)) == wait(QUIET_HOURS, NOW + MINUTE)
    assert plan(replace(quiet, next_one_off_at=NOW + 2 * hour)) == wait(QUIET_HOURS, NOW + hour)
    assert plan(replace(quiet, next_one_off_at=NOW)) == LanePlan(LaneAction.SEND)
    assert plan(replace(quiet, hours=SendingHours("Asia/Kuala_Lumpur"))) == LanePlan(LaneAction.SEND)


@pytest.mark.parametrize(
    ("standing", "why"),
    [
        (AWAY, "device offline"),
        (replace(READY, device_status=DeviceStatus.LOGGED_OUT), "device logged out"),
    ],
)
def test_messages_that_can_move_nowhere_wait_and_the_lane_looks_again(standing: LaneStanding, why: str) -> None:
    assert plan(replace(standing, can_move=False)) == wait(why, NOW + LOOK_AGAIN)
