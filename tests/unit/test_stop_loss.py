"""When a campaign stops by itself."""

from typing import Any

import pytest

from siaran.models import Campaign
from siaran.stop_loss import CANARY_WATCH, Outcomes, canary_room, is_canary_out, watch_until, why_stop
from tests.factories import NOW


def campaign(**columns: Any) -> Campaign:
    defaults: dict[str, Any] = {"expanded": 100, "expanded_at": NOW, "stop_baseline": {}, "canary_size": None}
    return Campaign(**{**defaults, **columns})


CANARY = {"canary_size": 10, "expanded": 10, "expanded_at": None}


def test_a_campaign_without_thresholds_never_stops() -> None:
    assert why_stop(campaign(), Outcomes(failed=100, opted_out=100)) is None


@pytest.mark.parametrize(("failed", "stops"), [(10, False), (11, True)])
def test_a_campaign_stops_above_its_share_of_failures(failed: int, stops: bool) -> None:
    why = why_stop(campaign(stop_failed_percent=10), Outcomes(succeeded=100 - failed, failed=failed))

    assert why == ("stopped by itself: 11 of 100 messages failed, 10 % may" if stops else None)


def test_a_few_failures_at_the_beginning_say_nothing() -> None:
    assert why_stop(campaign(stop_failed_percent=10), Outcomes(succeeded=14, failed=5)) is None
    assert why_stop(campaign(stop_failed_percent=10), Outcomes(succeeded=15, failed=5)) is not None


def test_opt_outs_are_measured_by_those_who_were_written_to() -> None:
    limited = campaign(stop_opted_out_percent=5)

    assert why_stop(limited, Outcomes(succeeded=100, opted_out=5)) is None
    assert why_stop(limited, Outcomes(succeeded=100, failed=50, opted_out=6)) == (
        "stopped by itself: 6 of 100 contacts opted out, 5 % may"
    )


def test_what_somebody_has_seen_and_resumed_is_not_judged_again() -> None:
    resumed = campaign(stop_failed_percent=10, stop_baseline={"succeeded": 50, "failed": 50, "opted_out": 0})

    assert why_stop(resumed, Outcomes(succeeded=95, failed=55)) is None
    assert why_stop(resumed, Outcomes(succeeded=90, failed=60)) is not None


def test_a_canary_without_a_threshold_may_lose_a_fifth() -> None:
    canary = campaign(**CANARY)

    assert why_stop(canary, Outcomes(succeeded=8, failed=2), fewest=1) is None
    assert why_stop(canary, Outcomes(succeeded=6, failed=3), fewest=1) is not None


def test_only_the_canary_is_written_before_it_has_passed() -> None:
    assert canary_room(campaign(canary_size=10, expanded=4, expanded_at=None)) == 6
    assert canary_room(campaign(**CANARY)) == 0
    assert canary_room(campaign(**CANARY, canary_passed_at=NOW)) is None
    assert canary_room(campaign()) is None
    assert is_canary_out(campaign(**CANARY))
    assert not is_canary_out(campaign(**{**CANARY, "expanded_at": NOW}))


def test_opt_outs_of_a_canary_are_waited_for_where_they_have_a_threshold() -> None:
    assert watch_until(campaign(**CANARY, stop_opted_out_percent=5), Outcomes(last_at=NOW)) == NOW + CANARY_WATCH
    assert watch_until(campaign(**CANARY), Outcomes(last_at=NOW)) is None
