"""The comparison of the network's record with the ledger: what counts as lost, repeated and unaccounted."""

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import uuid4

from siaran.gateway.interface import MessageType
from siaran.gateway.simulated_record import Transmission
from siaran.models import AttemptOutcome, MessageStatus
from siaran.reconciliation import Contradiction, LedgerAttempt, LedgerRow, Reason, reconcile

NOON = datetime(2026, 8, 31, 12, tzinfo=UTC)
AISYAH, BALA, CHONG = "60123456701", "60123456702", "60123456703"
numbers = count(1)


def transmission(key: str, to: str, after_seconds: float = 0) -> Transmission:
    return Transmission(
        id=f"{next(numbers)}-0",
        device_id=uuid4(),
        to=to,
        whatsapp_id="3EB0",
        body_sha256="",
        type=MessageType.TEXT,
        key=key,
        at=NOON + timedelta(seconds=after_seconds),
    )


def row(
    phone: str,
    status: MessageStatus,
    *attempts: tuple[str, AttemptOutcome],
    campaign_id: int = 1,
    asked_after: tuple[float, ...] = (),
) -> LedgerRow:
    return LedgerRow(
        message_id=next(numbers),
        campaign_id=campaign_id,
        phone=phone,
        status=status,
        attempts=[LedgerAttempt(key, outcome) for key, outcome in attempts],
        repeats_asked_at=[NOON + timedelta(seconds=after) for after in asked_after],
    )


def test_a_campaign_that_reached_everybody_is_clean():
    rows = [
        row(AISYAH, MessageStatus.READ, ("a1", AttemptOutcome.SENT)),
        row(BALA, MessageStatus.SENT, ("b1", AttemptOutcome.SENT)),
    ]
    found = reconcile([(1, AISYAH), (1, BALA)], [transmission("a1", AISYAH), transmission("b1", BALA)], rows)
    assert found.is_clean


def test_what_the_ledger_shows_as_not_sent_is_not_lost():
    ends = [MessageStatus.FAILED, MessageStatus.UNKNOWN, MessageStatus.SUPPRESSED, MessageStatus.CANCELLED]
    rows = [row(f"6012000000{number}", status) for number, status in enumerate(ends)]
    assert reconcile([(1, row.phone) for row in rows], [], rows).is_clean


def test_an_expected_recipient_whom_neither_side_knows_is_lost():
    found = reconcile(
        [(1, AISYAH), (1, BALA)], [transmission("a1", AISYAH)], [row(AISYAH, MessageStatus.SENT, ("a1", AttemptOutcome.SENT))]
    )
    assert found.lost == [(1, BALA)]
    assert not found.duplicates
    assert not found.unaccounted


def test_a_message_that_never_came_to_an_end_is_lost_and_unaccounted():
    waiting = row(AISYAH, MessageStatus.PENDING)
    found = reconcile([(1, AISYAH)], [], [waiting])
    assert found.lost == [(1, AISYAH)]
    assert found.unaccounted == [Contradiction(Reason.OPEN, AISYAH, 1, waiting.message_id)]


def test_a_claimed_message_that_the_network_has_is_not_lost_but_unaccounted():
    found = reconcile(
        [(1, AISYAH)], [transmission("a1", AISYAH)], [row(AISYAH, MessageStatus.CLAIMED, ("a1", AttemptOutcome.OPEN))]
    )
    assert not found.lost
    assert [contradiction.reason for contradiction in found.unaccounted] == [Reason.OPEN]


def test_a_message_that_is_called_sent_and_was_never_transmitted_is_lost_and_unaccounted():
    found = reconcile([(1, AISYAH)], [], [row(AISYAH, MessageStatus.DELIVERED, ("a1", AttemptOutcome.SENT))])
    assert found.lost == [(1, AISYAH)]
    assert [contradiction.reason for contradiction in found.unaccounted] == [Reason.NOT_TRANSMITTED]


def test_one_attempt_that_was_transmitted_twice_is_a_duplicate():
    twice = [transmission("a1", AISYAH), transmission("a1", AISYAH, after_seconds=3)]
    found = reconcile([(1, AISYAH)], twice, [row(AISYAH, MessageStatus.SENT, ("a1", AttemptOutcome.SENT))])
    assert found.duplicates == [(1, AISYAH)]
    assert not found.lost


def test_a_second_attempt_after_one_that_was_delivered_is_a_duplicate_and_contradicts_the_ledger():
    """What happens when a session store denies an attempt that it made."""
    twice = [transmission("a1", AISYAH), transmission("a2", AISYAH, after_seconds=3)]
    attempts = ("a1", AttemptOutcome.NOT_ATTEMPTED), ("a2", AttemptOutcome.SENT)
    found = reconcile([(1, AISYAH)], twice, [row(AISYAH, MessageStatus.SENT, *attempts)])
    assert found.duplicates == [(1, AISYAH)]
    assert [contradiction.reason for contradiction in found.unaccounted] == [Reason.DENIED]


def test_a_retry_after_a_rejection_is_no_duplicate():
    attempts = ("a1", AttemptOutcome.REJECTED), ("a2", AttemptOutcome.SENT)
    assert reconcile([(1, AISYAH)], [transmission("a2", AISYAH)], [row(AISYAH, MessageStatus.SENT, *attempts)]).is_clean


def test_an_unknown_message_that_a_person_sent_again_is_no_duplicate():
    attempts = ("a1", AttemptOutcome.UNKNOWN), ("a2", AttemptOutcome.SENT)
    repeated = row(AISYAH, MessageStatus.SENT, *attempts, asked_after=(60,))
    assert reconcile([(1, AISYAH)], [transmission("a1", AISYAH), transmission("a2", AISYAH, 61)], [repeated]).is_clean


def test_a_person_who_asked_once_excuses_one_repetition():
    attempts = ("a1", AttemptOutcome.UNKNOWN), ("a2", AttemptOutcome.UNKNOWN), ("a3", AttemptOutcome.SENT)
    repeated = row(AISYAH, MessageStatus.SENT, *attempts, asked_after=(60,))
    thrice = [transmission(key, AISYAH, after) for key, after in [("a1", 0), ("a2", 61), ("a3", 70)]]
    assert reconcile([(1, AISYAH)], thrice, [repeated]).duplicates == [(1, AISYAH)]


def test_the_same_person_in_two_campaigns_is_no_duplicate():
    rows = [
        row(AISYAH, MessageStatus.SENT, ("a1", AttemptOutcome.SENT), campaign_id=1),
        row(AISYAH, MessageStatus.SENT, ("b1", AttemptOutcome.SENT), campaign_id=2),
    ]
    assert reconcile([(1, AISYAH), (2, AISYAH)], [transmission("a1", AISYAH), transmission("b1", AISYAH)], rows).is_clean


def test_a_transmission_that_the_ledger_does_not_know_is_unaccounted():
    found = reconcile([], [transmission("x", CHONG)], [])
    assert found.unaccounted == [Contradiction(Reason.NOT_IN_LEDGER, CHONG)]


def test_a_message_that_reached_somebody_else_is_lost_and_unaccounted():
    found = reconcile(
        [(1, AISYAH)], [transmission("a1", CHONG)], [row(AISYAH, MessageStatus.SENT, ("a1", AttemptOutcome.SENT))]
    )
    assert found.lost == [(1, AISYAH)]
    assert [contradiction.reason for contradiction in found.unaccounted] == [Reason.OTHER_RECIPIENT, Reason.NOT_TRANSMITTED]


def test_a_message_to_somebody_who_was_not_to_be_written_to_is_unaccounted():
    found = reconcile([], [transmission("a1", AISYAH)], [row(AISYAH, MessageStatus.SENT, ("a1", AttemptOutcome.SENT))])
    assert [contradiction.reason for contradiction in found.unaccounted] == [Reason.NOT_EXPECTED]
