"""Who gives pending messages to whom when devices come back or drift apart."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from siaran.ledger.balance import WORTH_MOVING, Shift, plan_shifts

A, B, C = UUID(int=1), UUID(int=2), UUID(int=3)


def test_a_device_that_has_come_back_gets_its_share() -> None:
    assert plan_shifts({A: 60, B: 60, C: 0}) == [Shift(B, C, 20), Shift(A, C, 20)]


def test_devices_that_hold_about_the_same_keep_it() -> None:
    assert plan_shifts({A: 60, B: 40, C: 31}) == []
    assert plan_shifts({A: 6, B: 0}) == []
    assert plan_shifts({A: 500}) == []
    assert plan_shifts({}) == []


@given(st.dictionaries(st.uuids(), st.integers(0, 100_000), max_size=12))
def test_shifts_keep_every_message_and_leave_no_device_far_behind(pending: dict[UUID, int]) -> None:
    after = dict(pending)
    for shift in plan_shifts(pending):
        assert shift.messages > 0
        after[shift.source] -= shift.messages
        after[shift.target] += shift.messages

    assert sum(after.values()) == sum(pending.values())
    assert all(count >= 0 for count in after.values())
    if len(after) > 1:
        average = sum(after.values()) / len(after)
        assert all(count >= average / 2 - 1 or average - count < WORTH_MOVING + len(after) for count in after.values())
        assert plan_shifts(after) == [] or average < 4 * WORTH_MOVING
