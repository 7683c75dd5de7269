"""A driver of the ledger as a host drives it: every step is a transaction of its own."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, inspect, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.db import SessionMaker
from siaran.gateway.interface import Receipt, ReceiptKind
from siaran.ledger.claims import Claim, ClaimRequest, claim_messages
from siaran.ledger.counters import recount_days
from siaran.ledger.endings import cancel_batch, retry_batch
from siaran.ledger.moves import move_batch
from siaran.ledger.receipts import apply_receipts
from siaran.ledger.records import Record, record_outcomes
from siaran.ledger.settlement import OpenClaim, open_claims, sweep_stale_claims
from siaran.models import (
    AttemptOutcome,
    BroadcastMessage,
    Campaign,
    CampaignCount,
    Device,
    Host,
    Lane,
    MessageAnalytics,
    MessageAttempt,
    MessageStatus,
    UnmatchedReceipt,
    User,
)
from tests.factories import NOW, add_campaign, add_device, add_host, add_messages, add_user

OUTCOMES = {
    MessageStatus.SENT: AttemptOutcome.SENT,
    MessageStatus.FAILED: AttemptOutcome.REJECTED,
    MessageStatus.UNKNOWN: AttemptOutcome.UNKNOWN,
    MessageStatus.PENDING: AttemptOutcome.NOT_ATTEMPTED,
}
"""How an attempt usually ended when its message became that."""


def record_of(claim: Claim, status: MessageStatus = MessageStatus.SENT, **fields: Any) -> Record:
    """The record of a claim's attempt; a sent one has the id `wa-{message}-{attempt}`."""
    defaults: dict[str, Any] = {"outcome": OUTCOMES[status], "at": NOW}
    if status is MessageStatus.SENT:
        defaults["whatsapp_id"] = whatsapp_id(claim)
    return Record(
        message_id=claim.message_id,
        attempt=claim.attempt,
        device_id=claim.device_id,
        user_id=claim.user_id,
        campaign_id=claim.campaign_id,
        sequence_id=claim.sequence_id,
        source=claim.source,
        status=status,
        **{**defaults, **fields},
    )


def whatsapp_id(claim: Claim) -> str:
    """The id that WhatsApp gives the attempt in these tests."""
    return f"wa-{claim.message_id}-{claim.attempt}"


def receipt_of(claim: Claim, kind: ReceiptKind = ReceiptKind.DELIVERED, at: datetime = NOW) -> Receipt:
    """A receipt for a claim's attempt."""
    return Receipt(claim.device_id, whatsapp_id(claim), kind, at)


class Ledger:
    """One user with hosts, devices and campaigns, and what a host does with their messages."""

    user: User
    host: Host

    def __init__(self, sessions: SessionMaker) -> None:
        self.sessions = sessions

    async def open(self) -> None:
        """Add the user and a host with a live lease."""
        async with self.sessions.begin() as session:
            self.user = await add_user(session)
            self.host = await add_host(session)

    async def device(self, host: Host | None = None, **columns: Any) -> Device:
        """Another device of the user, online at the host."""
        async with self.sessions.begin() as session:
            return await add_device(session, self.user, host or self.host, **columns)

    async def campaign(self, **columns: Any) -> Campaign:
        """Another campaign under way."""
        async with self.sessions.begin() as session:
            return await add_campaign(session, self.user, **columns)

    async def messages(self, campaign: Campaign, device: Device, phones: Any = 1, **columns: Any) -> list[int]:
        """Messages of the campaign on the device."""
        async with self.sessions.begin() as session:
            return await add_messages(session, campaign, device, phones, **columns)

    async def change(self, row: Any, **columns: Any) -> None:
        """Write columns of a row, as the API or the fleet would; without any, the row as it is here.

        Columns that are not named stay as a host, which may run beside the test, has written them.
        """
        async with self.sessions.begin() as session:
            if not columns:
                await session.merge(row)
                return
            present = await session.get_one(type(row), inspect(row).identity)
            for name, value in columns.items():
                setattr(present, name, value)

    async def claims(
        self, devices: Sequence[Device], *, host: Host | None = None, at: datetime = NOW, last: Mapping[UUID, str] | None = None
    ) -> list[Claim]:
        """Ask for the next message of each device; `last` is whose message each sent last."""
        async with self.sessions.begin() as session:
            requests = [ClaimRequest(device.id, (last or {}).get(device.id, "")) for device in devices]
            return await claim_messages(session, (host or self.host).id, requests, at)

    async def claim(self, device: Device, *, after_source: str = "", at: datetime = NOW) -> Claim | None:
        """Ask for the next message of one device."""
        claims = await self.claims([device], at=at, last={device.id: after_source})
        return claims[0] if claims else None

    async def claimed(self, device: Device, **how: Any) -> Claim:
        """The same where there must be one."""
        claim = await self.claim(device, **how)
        assert claim is not None
        return claim

    async def record(self, *records: Record) -> None:
        """Write how attempts ended."""
        async with self.sessions.begin() as session:
            await record_outcomes(session, records)

    async def receive(self, *receipts: Receipt) -> None:
        """Take in receipts."""
        async with self.sessions.begin() as session:
            await apply_receipts(session, receipts)

    async def move(self, device: Device, at: datetime = NOW) -> dict[UUID, int]:
        """Move one batch of the device's messages away."""
        async with self.sessions.begin() as session:
            return await move_batch(session, device.user_id, device.id, at)

    async def retry(
        self, campaign: Campaign, requested_at: datetime, *, device_id: UUID | None = None, message_id: int | None = None
    ) -> list[UUID]:
        """Carry out one batch of a retry request; returns the device of each message."""
        async with self.sessions.begin() as session:
            return await retry_batch(
                session, campaign.user_id, campaign.id, requested_at, device_id=device_id, message_id=message_id
            )

    async def cancel(self, campaign: Campaign) -> int:
        """Cancel one batch of the campaign's pending messages."""
        async with self.sessions.begin() as session:
            return await cancel_batch(session, campaign.user_id, campaign.id)

    async def open_claims(self, device: Device) -> Sequence[OpenClaim]:
        """The device's messages that are claimed."""
        async with self.sessions() as session:
            return await open_claims(session, device.user_id, device.id)

    async def sweep(self, at: datetime) -> int:
        """End stale claims."""
        async with self.sessions.begin() as session:
            return await sweep_stale_claims(session, at)

    async def end_lease(self, host: Host) -> None:
        """Let a lease run out."""
        await self.change(host, expires_at=host.expires_at - timedelta(days=1))

    async def message(self, message_id: int) -> BroadcastMessage:
        """A message as it stands now."""
        async with self.sessions() as session:
            return await session.get_one(BroadcastMessage, message_id)

    async def status(self, message_id: int) -> MessageStatus:
        """Where a message stands now."""
        return (await self.message(message_id)).status

    async def attempts(self, message_id: int) -> list[MessageAttempt]:
        """The attempts of a message, oldest first."""
        query = select(MessageAttempt).where(MessageAttempt.message_id == message_id).order_by(MessageAttempt.attempt)
        async with self.sessions() as session:
            return list(await session.scalars(query))

    async def lane(self, device: Device) -> Lane:
        """A device's lane as it stands now."""
        async with self.sessions() as session:
            return await session.get_one(Lane, device.id)

    async def kept_receipts(self) -> list[tuple[str, str]]:
        """Receipts that fit no attempt yet: WhatsApp id and kind."""
        async with self.sessions() as session:
            return [(row.whatsapp_id, row.kind) for row in await session.scalars(select(UnmatchedReceipt))]

    async def counts(self, campaign: Campaign, device: Device | None = None) -> dict[str, int]:
        """The counters of a campaign that are not zero, over all devices or of one."""
        query = select(CampaignCount).where(CampaignCount.campaign_id == campaign.id)
        if device is not None:
            query = query.where(CampaignCount.device_id == device.id)
        async with self.sessions() as session:
            rows = list(await session.scalars(query))
        sums = {name: sum(getattr(row, name) for row in rows) for name in COUNTERS}
        return {name: number for name, number in sums.items() if number}

    async def check(self) -> None:
        """See `assert_counters_match`; seen at one instant, since a host may be at work."""
        async with self.sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            await assert_counters_match(session)
        await self.check_days()

    async def days(self) -> dict[tuple[UUID, date], dict[str, int]]:
        """The counters per device and day that are not zero."""
        async with self.sessions() as session:
            return await _days(session, self.user.id)

    async def check_days(self) -> None:
        """The counters per day say what counting all messages again says; what that writes is not kept."""
        async with self.sessions() as session:
            await session.execute(select(User.id).where(User.id == self.user.id).with_for_update())
            kept = await _days(session, self.user.id)
            await recount_days(session, self.user.id)
            assert kept == await _days(session, self.user.id)
        assert all(row["sent"] >= row["delivered"] >= row["read"] for row in kept.values() if "read" in row)
        assert all(number > 0 for row in kept.values() for number in row.values())


DAILY = ("sent", "delivered", "read", "replied", "failed")


async def _days(session: AsyncSession, user_id: UUID) -> dict[tuple[UUID, date], dict[str, int]]:
    query = select(MessageAnalytics).where(MessageAnalytics.user_id == user_id).execution_options(populate_existing=True)
    rows = {
        (row.device_id, row.day): {name: getattr(row, name) for name in DAILY if getattr(row, name)}
        for row in await session.scalars(query)
    }
    return {key: row for key, row in rows.items() if row}


COUNTERS = ("pending", "sent", "delivered", "read", "failed", "unknown", "suppressed", "cancelled")


async def assert_counters_match(session: AsyncSession) -> None:
    """The counters say what a count of the rows says, for every campaign and device; none is below zero."""
    counted: dict[tuple[int, UUID], dict[str, int]] = {}
    query = (
        select(BroadcastMessage.campaign_id, BroadcastMessage.device_id, BroadcastMessage.status, func.count())
        .where(BroadcastMessage.campaign_id.is_not(None))
        .group_by(BroadcastMessage.campaign_id, BroadcastMessage.device_id, BroadcastMessage.status)
    )
    for campaign_id, device_id, status, number in (await session.execute(query)).all():
        assert campaign_id is not None
        column = "pending" if status == MessageStatus.CLAIMED else str(status)
        row = counted.setdefault((campaign_id, device_id), dict.fromkeys(COUNTERS, 0))
        row[column] += number
    kept = {
        (row.campaign_id, row.device_id): {name: getattr(row, name) for name in COUNTERS}
        for row in await session.scalars(select(CampaignCount))
    }
    assert {key: row for key, row in kept.items() if any(row.values())} == counted
