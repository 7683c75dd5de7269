"""The comparison of the simulated network's record with the ledger and with who was to be written to."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from siaran.attempt_keys import attempt_key
from siaran.gateway.simulated_network import SimulatedNetwork
from siaran.gateway.simulated_record import Transmission
from siaran.models import AttemptOutcome, BroadcastMessage, CampaignRetry, MessageAttempt, MessageStatus
from siaran.tenancy import select_owned

Recipient = tuple[int, str]
"""A campaign and a phone (digits, international form) that it is to write to."""

OPEN = frozenset({MessageStatus.PENDING, MessageStatus.CLAIMED})
SENT = frozenset({MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ})
NOT_SENT = frozenset(MessageStatus) - OPEN - SENT
"""End states that do not claim that the recipient got the message; `unknown` is one of them."""

DENIED = frozenset({AttemptOutcome.REJECTED, AttemptOutcome.NOT_ATTEMPTED})
"""Outcomes that say that nothing was delivered."""


@dataclass(frozen=True, slots=True)
class LedgerAttempt:
    """One attempt as the ledger has it; `key` is its idempotency key in hex, by which the network knows it too."""

    key: str
    outcome: AttemptOutcome


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One message of a campaign; `repeats_asked_at` is when a person asked for this very message once more."""

    message_id: int
    campaign_id: int
    phone: str
    status: MessageStatus
    attempts: Sequence[LedgerAttempt] = ()
    repeats_asked_at: Sequence[datetime] = ()


class Reason(StrEnum):
    """How the network, the ledger and the input contradict each other."""

    OPEN = "the ledger has come to no end with it"
    NOT_TRANSMITTED = "the ledger says sent, the network never saw it"
    NOT_IN_LEDGER = "the network accepted it, the ledger knows no such attempt"
    OTHER_RECIPIENT = "the network delivered it to somebody else than the ledger says"
    DENIED = "the network accepted an attempt of which the ledger says that nothing was delivered"
    NOT_EXPECTED = "the ledger has a message for somebody who was not to be written to"


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One message or transmission that does not fit; a transmission that the ledger does not know has no ids."""

    reason: Reason
    phone: str
    campaign_id: int | None = None
    message_id: int | None = None


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What the comparison found; all three are empty if nothing went wrong.

    `lost`: expected recipients whom the network did not reach and whom the ledger does not show in a non-sent end state.
    `duplicates`: recipients who got the same message more often than once and than a person asked for.
    """

    lost: Sequence[Recipient]
    duplicates: Sequence[Recipient]
    unaccounted: Sequence[Contradiction]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, repeated or left unexplained."""
        return not (self.lost or self.duplicates or self.unaccounted)


def reconcile(
    expected: Iterable[Recipient], transmissions: Iterable[Transmission], rows: Collection[LedgerRow]
) -> Reconciliation:
    """Compare who was to be written to, what the network accepted, and what the ledger says.

    `rows` are all messages of the campaigns in `expected`, `transmissions` all that the network accepted for them.
    """
    wanted = set(expected)
    attempts = {attempt.key: (row, attempt) for row in rows for attempt in row.attempts}
    received: defaultdict[int, list[datetime]] = defaultdict(list)
    unaccounted: list[Contradiction] = []
    for transmission in transmissions:
        found = attempts.get(transmission.key)
        if found is None:
            unaccounted.append(Contradiction(Reason.NOT_IN_LEDGER, transmission.to))
            continue
        row, attempt = found
        if row.phone != transmission.to:
            unaccounted.append(_about(row, Reason.OTHER_RECIPIENT))
            continue
        received[row.message_id].append(transmission.at)
        if attempt.outcome in DENIED:
            unaccounted.append(_about(row, Reason.DENIED))
    for row in rows:
        unaccounted += [_about(row, reason) for reason in _contradictions(row, wanted, bool(received[row.message_id]))]
    reached = {_recipient(row) for row in rows if received[row.message_id] or row.status in NOT_SENT}
    return Reconciliation(
        lost=sorted(wanted - reached),
        duplicates=sorted(_recipient(row) for row in rows if _is_repeated(row, received[row.message_id])),
        unaccounted=unaccounted,
    )


def _recipient(row: LedgerRow) -> Recipient:
    return row.campaign_id, row.phone


def _about(row: LedgerRow, reason: Reason) -> Contradiction:
    return Contradiction(reason, row.phone, row.campaign_id, row.message_id)


def _contradictions(row: LedgerRow, wanted: Collection[Recipient], is_received: bool) -> Iterable[Reason]:
    if row.status in OPEN:
        yield Reason.OPEN
    if row.status in SENT and not is_received:
        yield Reason.NOT_TRANSMITTED
    if _recipient(row) not in wanted:
        yield Reason.NOT_EXPECTED


def _is_repeated(row: LedgerRow, received: Sequence[datetime]) -> bool:
    """Whether two transmissions follow each other without a person asking in between, as one may after `unknown`."""
    return any(
        not any(before < asked_at <= after for asked_at in row.repeats_asked_at) for before, after in pairwise(sorted(received))
    )


async def ledger_rows(session: AsyncSession, user_id: UUID, campaign_ids: Collection[int], secret: bytes) -> list[LedgerRow]:
    """All messages of a user's campaigns; `secret` is what the idempotency keys are made with (`attempt_keys.secret_of`)."""
    messages = await session.execute(
        select_owned(BroadcastMessage, user_id)
        .where(BroadcastMessage.campaign_id.in_(campaign_ids))
        .with_only_columns(
            BroadcastMessage.id, BroadcastMessage.campaign_id, BroadcastMessage.recipient_phone, BroadcastMessage.status
        )
    )
    attempts = await _attempts(session, user_id, campaign_ids, secret)
    repeats = await _repeats(session, user_id, campaign_ids)
    return [
        LedgerRow(row.id, row.campaign_id, row.recipient_phone, MessageStatus(row.status), attempts[row.id], repeats[row.id])
        for row in messages
    ]


async def _attempts(
    session: AsyncSession, user_id: UUID, campaign_ids: Collection[int], secret: bytes
) -> Mapping[int, Sequence[LedgerAttempt]]:
    rows = await session.execute(
        select_owned(MessageAttempt, user_id)
        .join(BroadcastMessage, BroadcastMessage.id == MessageAttempt.message_id)
        .where(BroadcastMessage.campaign_id.in_(campaign_ids))
        .with_only_columns(MessageAttempt.message_id, MessageAttempt.attempt, MessageAttempt.outcome)
    )
    found: defaultdict[int, list[LedgerAttempt]] = defaultdict(list)
    for row in rows:
        key = attempt_key(secret, row.message_id, row.attempt).hex()
        found[row.message_id].append(LedgerAttempt(key, AttemptOutcome(row.outcome)))
    return found


async def _repeats(session: AsyncSession, user_id: UUID, campaign_ids: Collection[int]) -> Mapping[int, Sequence[datetime]]:
    rows = await session.execute(
        select_owned(CampaignRetry, user_id)
        .where(CampaignRetry.campaign_id.in_(campaign_ids), CampaignRetry.message_id.is_not(None))
        .with_only_columns(CampaignRetry.message_id, CampaignRetry.requested_at)
    )
    found: defaultdict[int, list[datetime]] = defaultdict(list)
    for row in rows:
        found[row.message_id].append(row.requested_at)
    return found


async def reconcile_campaigns(
    session: AsyncSession,
    network: SimulatedNetwork,
    user_id: UUID,
    expected: Mapping[int, Collection[str]],
    secret: bytes,
) -> Reconciliation:
    """Compare a user's campaigns, given with the phones each is to write to, with all that the network accepted.

    Transmissions of anything else on the same network count as unaccounted. The ledger is read last: what the network has
    accepted by then is in it. Raises `Unavailable` while the network does not answer.
    """
    transmissions = [transmission async for transmission in network.transmissions()]
    rows = await ledger_rows(session, user_id, expected.keys(), secret)
    wanted = [(campaign_id, phone) for campaign_id, phones in expected.items() for phone in phones]
    return reconcile(wanted, transmissions, rows)
