"""Whatever happens, in whatever order: totals add up, counters match, ranks only rise, and nothing is sent twice or guessed.

The test knows of every attempt whether it really went out; what the ledger is told of it is true, but may be late, come twice
or be lost.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from siaran.db import SessionMaker
from siaran.gateway.interface import ReceiptKind
from siaran.ledger.claims import Claim
from siaran.ledger.records import Record
from siaran.ledger.settlement import CLAIM_LIMIT
from siaran.models import AttemptOutcome, BroadcastMessage, Campaign, CampaignStatus, Device, MessageAttempt, MessageStatus
from tests.factories import NOW, add_host, suppress
from tests.ledger.driver import Ledger, receipt_of, record_of, whatsapp_id

S = MessageStatus
ARRIVED = {S.SENT, S.DELIVERED, S.READ}
ALLOWED = {
    S.PENDING: {S.CLAIMED, S.SUPPRESSED, S.CANCELLED, *ARRIVED},
    S.CLAIMED: {S.PENDING, S.FAILED, S.UNKNOWN, *ARRIVED},
    S.SENT: {S.DELIVERED, S.READ},
    S.DELIVERED: {S.READ},
    S.READ: set(),
    S.FAILED: ARRIVED,
    S.UNKNOWN: ARRIVED,
    S.SUPPRESSED: ARRIVED,
    S.CANCELLED: ARRIVED,
}
"""How a message's state may change, but for retries."""

RETRIED = {"retry": S.FAILED, "retry_one": S.UNKNOWN}
"""What a step may take back to `pending`."""

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["claim"] * 6
            + ["record"] * 6
            + ["receipt"] * 3
            + ["again", "late", "move", "retry", "retry_one", "cancel", "host_dies", "settle", "sweep", "pause", "opt_out"]
            + ["night"]
        ),
        st.integers(0, 1_000_000),
    ),
    min_size=10,
    max_size=45,
)


@dataclass
class Attempt:
    """A claim and what really became of it."""

    claim: Claim
    went_out: bool
    record: Record | None = None
    has_receipt: bool = False

    @property
    def is_proven(self) -> bool:
        """Whether the ledger has been told that it went out."""
        if self.record is None:
            return False
        return self.record.status is S.SENT or (self.has_receipt and self.record.whatsapp_id is not None)


@dataclass
class World:
    """Two campaigns on three devices of one user, and all that has happened to them."""

    ledger: Ledger
    now: datetime = NOW
    devices: list[Device] = field(default_factory=list)
    campaigns: list[Campaign] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    orphans: list[Attempt] = field(default_factory=list)
    sent_again_by_hand: set[int] = field(default_factory=set)
    statuses: dict[int, MessageStatus] = field(default_factory=dict)

    async def open(self) -> None:
        """Begin with six messages on each device."""
        async with self.ledger.sessions.begin() as session:
            await session.execute(text("TRUNCATE users, hosts RESTART IDENTITY CASCADE"))
        await self.ledger.open()
        self.devices = [await self.ledger.device() for _ in range(3)]
        self.campaigns = [await self.ledger.campaign() for _ in range(2)]
        for campaign in self.campaigns:
            for device in self.devices:
                await self.ledger.messages(campaign, device, 3)
        self.statuses = await self.read()

    async def read(self) -> dict[int, MessageStatus]:
        """Where every message stands."""
        async with self.ledger.sessions() as session:
            rows = (await session.execute(select(BroadcastMessage.id, BroadcastMessage.status))).all()
        return {row.id: row.status for row in rows}

    async def take(self, step: str, number: int) -> None:
        """Let one thing happen, and see that no message changed as it must not."""
        self.now += timedelta(seconds=1)
        await getattr(self, step)(number)
        statuses = await self.read()
        assert statuses.keys() == self.statuses.keys()
        for message_id, status in statuses.items():
            before = self.statuses[message_id]
            allowed = ALLOWED[before] | ({S.PENDING} if RETRIED.get(step) is before else set())
            assert status is before or status in allowed, f"{step}: {before} -> {status}"
        self.statuses = statuses

    async def claim(self, number: int) -> None:
        device = self.devices[number % 3]
        if any(attempt.claim.device_id == device.id for attempt in [*self.open_attempts(), *self.orphans]):
            return  # a device sends one message at a time, and settles what is open first
        claim = await self.ledger.claim(device, after_source=f"campaign:{number % 2 + 1}", at=self.now)
        if claim is not None and not claim.is_suppressed:
            self.attempts.append(Attempt(claim, went_out=number % 5 < 3))

    def open_attempts(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.record is None and attempt not in self.orphans]

    def pick(self, attempts: list[Attempt], number: int) -> Attempt | None:
        return attempts[number % len(attempts)] if attempts else None

    async def record(self, number: int) -> None:
        if (attempt := self.pick(self.open_attempts(), number)) is not None:
            await self.write(
                attempt, [S.SENT, S.SENT, S.UNKNOWN] if attempt.went_out else [S.FAILED, S.PENDING, S.UNKNOWN], number
            )

    async def write(self, attempt: Attempt, ends: list[MessageStatus], number: int) -> None:
        status = ends[number % len(ends)]
        fields: dict[str, Any] = {"at": self.now}
        if status is S.FAILED:
            fields |= {"error_code": "e1", "is_retryable": number % 2 == 0}
        if status is S.UNKNOWN and attempt.went_out:
            fields |= {"whatsapp_id": whatsapp_id(attempt.claim)}
        attempt.record = record_of(attempt.claim, status, **fields)
        await self.ledger.record(attempt.record)

    async def again(self, number: int) -> None:
        """A record is written twice: its first commit was not acknowledged."""
        attempt = self.pick([attempt for attempt in self.attempts if attempt.record is not None], number)
        if attempt is not None and attempt.record is not None:
            await self.ledger.record(attempt.record)

    async def late(self, number: int) -> None:
        """The news that an attempt had gone out comes after it was given up."""
        attempt = self.pick([attempt for attempt in self.attempts if attempt.went_out and attempt.record is not None], number)
        if attempt is not None:
            attempt.record = record_of(attempt.claim, at=self.now)
            await self.ledger.record(attempt.record)

    async def receipt(self, number: int) -> None:
        attempt = self.pick([attempt for attempt in self.attempts if attempt.went_out], number)
        if attempt is not None:
            attempt.has_receipt = True
            kind = list(ReceiptKind)[number % 3]
            await self.ledger.receive(receipt_of(attempt.claim, kind, self.now))

    async def move(self, number: int) -> None:
        await self.ledger.move(self.devices[number % 3], self.now)

    async def retry(self, number: int) -> None:
        device_id = self.devices[number % 3].id if number % 2 else None
        await self.ledger.retry(self.campaigns[number % 2], self.now, device_id=device_id)

    async def retry_one(self, number: int) -> None:
        unknown = sorted(message_id for message_id, status in self.statuses.items() if status is S.UNKNOWN)
        if not unknown:
            return
        message_id = unknown[number % len(unknown)]
        self.sent_again_by_hand.add(message_id)
        message = await self.ledger.message(message_id)
        campaign = next(campaign for campaign in self.campaigns if campaign.id == message.campaign_id)
        await self.ledger.retry(campaign, self.now, message_id=message_id)

    async def cancel(self, number: int) -> None:
        if number % 4 == 0:
            await self.ledger.cancel(self.campaigns[number % 2])

    async def host_dies(self, _: int) -> None:
        """Another host gets the devices; what the old one had under way is in doubt."""
        self.orphans += self.open_attempts()
        async with self.ledger.sessions.begin() as session:
            await session.execute(text("UPDATE hosts SET ended_at = now()"))
            self.ledger.host = await add_host(session)
            await session.execute(text("UPDATE user_devices SET host_id = :host"), {"host": self.ledger.host.id})

    async def settle(self, number: int) -> None:
        """The session store knows what went out, or nobody can tell."""
        if (attempt := self.pick(self.orphans, number)) is not None:
            self.orphans.remove(attempt)
            await self.write(attempt, [S.UNKNOWN] if attempt.went_out else [S.PENDING, S.UNKNOWN], number)

    async def sweep(self, _: int) -> None:
        """Nobody settled it in time, since the devices did not come back online."""
        await self._set_status("offline")
        await self.ledger.sweep(self.now + CLAIM_LIMIT)
        await self._set_status("online")
        for attempt in [*self.orphans, *self.open_attempts()]:
            # Who had it under way may still say how it ended; the message goes on without.
            attempt.record = attempt.record or record_of(attempt.claim, S.UNKNOWN, at=self.now)
        self.orphans.clear()

    async def _set_status(self, status: str) -> None:
        async with self.ledger.sessions.begin() as session:
            await session.execute(text("UPDATE user_devices SET status = :status"), {"status": status})

    async def night(self, number: int) -> None:
        """What was sent the day before is delivered, and read, on another day."""
        self.now += timedelta(hours=6 + number % 24)

    async def pause(self, number: int) -> None:
        campaign = self.campaigns[number % 2]
        status = CampaignStatus.PAUSED if number % 3 else CampaignStatus.SENDING
        await self.ledger.change(campaign, status=status)

    async def opt_out(self, number: int) -> None:
        message = await self.ledger.message(sorted(self.statuses)[number % len(self.statuses)])
        async with self.ledger.sessions.begin() as session:
            await session.execute(
                text("UPDATE suppressions SET lifted_at = now() WHERE phone = :p"), {"p": message.recipient_phone}
            )
            await suppress(session, self.ledger.user.id, message.recipient_phone)

    async def check(self) -> None:
        """Counters match, totals add up, and no message went out twice unless a person asked for it."""
        await self.ledger.check()
        for campaign in self.campaigns:
            assert sum((await self.ledger.counts(campaign)).values()) == 9
        async with self.ledger.sessions() as session:
            rows = list(await session.scalars(select(MessageAttempt)))
        for message_id, status in self.statuses.items():
            went_out = [attempt for attempt in self.attempts if attempt.claim.message_id == message_id and attempt.went_out]
            sent = [row for row in rows if row.message_id == message_id and row.outcome is AttemptOutcome.SENT]
            assert len(sent) <= len(went_out)
            assert status not in ARRIVED or went_out, "guessed"
            assert len(went_out) <= 1 or message_id in self.sent_again_by_hand, "sent twice"
            assert status in ARRIVED or not any(attempt.is_proven for attempt in went_out), "sent, and not shown so"


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_any_history_of_a_ledger_adds_up(sessions: SessionMaker, steps: list[tuple[str, int]]) -> None:
    world = World(Ledger(sessions))
    await world.open()
    for step, number in steps:
        await world.take(step, number)
    await world.check()
