"""Rows that tests begin with: a user, hosts, devices with their lanes, leads, campaigns, and messages with their counters."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.ledger.counters import Change, change_counters
from siaran.models import (
    ONE_OFF,
    BroadcastMessage,
    Campaign,
    CampaignStatus,
    Device,
    DeviceStatus,
    Host,
    Lane,
    Lead,
    MessageStatus,
    Suppression,
    TargetStatus,
    TransportKind,
    User,
    campaign_source,
)
from siaran.niches import parse_niches

NOW = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
"""The instant at which tests of decisions begin; leases alone follow PostgreSQL's clock."""

_numbers = count(1)


def new_phone() -> str:
    """A phone that no other call of this test session returns."""
    return f"6012{next(_numbers):07d}"


def after(seconds: float) -> datetime:
    """So many seconds after `NOW`."""
    return NOW + timedelta(seconds=seconds)


async def add_user(session: AsyncSession, **columns: Any) -> User:
    """Someone who owns things."""
    defaults = {"full_name": "Aisyah", "password_hash": "-", "timezone": "Asia/Kuala_Lumpur", "country": "MY"}
    user = User(**{**defaults, "email": f"user{next(_numbers)}@example.com", **columns})
    session.add(user)
    await session.flush()
    return user


async def add_host(session: AsyncSession, *, lives_for: timedelta = timedelta(hours=1), **columns: Any) -> Host:
    """A host whose lease runs out so long from now, on PostgreSQL's clock."""
    expires_at = datetime.now(UTC) + lives_for
    host = Host(
        **{"server": "here", "transport": TransportKind.SIMULATED, "capacity": 1000, "expires_at": expires_at, **columns}
    )
    session.add(host)
    await session.flush()
    return host


async def add_device(session: AsyncSession, user: User, host: Host | None = None, **columns: Any) -> Device:
    """A linked device with a lane: online at its host, or offline where it has none."""
    number = next(_numbers)
    defaults: dict[str, Any] = {
        "device_name": f"Device {number}",
        "phone": f"6019{number:07d}",
        "jid": f"6019{number:07d}:1@s.whatsapp.net",
        "link_generation": 1,
        "status": DeviceStatus.ONLINE if host else DeviceStatus.OFFLINE,
        "host_id": host.id if host else None,
    }
    device = Device(user_id=user.id, **{**defaults, **columns})
    session.add(device)
    await session.flush()
    session.add(Lane(user_id=user.id, device_id=device.id))
    await session.flush()
    return device


async def add_lead(session: AsyncSession, user: User, **columns: Any) -> Lead:
    """A prospect; `niche` also sets the whole tags."""
    niche = columns.pop("niche", "")
    lead = Lead(user_id=user.id, niche=niche, niches=parse_niches(niche), **{"name": "Ali", "phone": new_phone(), **columns})
    session.add(lead)
    await session.flush()
    return lead


async def add_campaign(session: AsyncSession, user: User, **columns: Any) -> Campaign:
    """A campaign under way whose audience has been expanded."""
    defaults: dict[str, Any] = {
        "title": "Promo",
        "target_status": TargetStatus.PROSPECT,
        "message": "Hi {{name}}",
        "campaign_date": date(2026, 3, 2),
        "scheduled_time": time(9),
        "scheduled_at": NOW,
        "status": CampaignStatus.SENDING,
        "expanded_at": NOW,
        "min_delay_seconds": 0,
        "max_delay_seconds": 0,
    }
    campaign = Campaign(user_id=user.id, **{**defaults, **columns})
    session.add(campaign)
    await session.flush()
    return campaign


async def add_messages(
    session: AsyncSession,
    campaign: Campaign,
    device: Device,
    phones: int | Iterable[str] = 1,
    *,
    status: MessageStatus = MessageStatus.PENDING,
    **columns: Any,
) -> list[int]:
    """Messages of a campaign on a device, with their counters; due at `NOW`. Returns their ids in order."""
    numbers = [new_phone() for _ in range(phones)] if isinstance(phones, int) else list(phones)
    row: dict[str, Any] = {
        "user_id": campaign.user_id,
        "device_id": device.id,
        "campaign_id": campaign.id,
        "source": campaign_source(campaign.id),
        "status": status,
        "recipient_name": "Ali",
        "scheduled_at": NOW,
        **columns,
    }
    statement = insert(BroadcastMessage).returning(BroadcastMessage.id, sort_by_parameter_order=True)
    ids = list(await session.scalars(statement, [{**row, "recipient_phone": phone} for phone in numbers]))
    counted_at = row.get("sent_at") or row.get("claimed_at") or row["scheduled_at"]
    await change_counters(
        session, [Change(campaign.id, device.id, campaign.user_id, None, status, len(ids), after_at=counted_at)]
    )
    return ids


async def add_one_off(session: AsyncSession, device: Device, **columns: Any) -> int:
    """A message of no campaign, as a test send is; returns its id."""
    defaults: dict[str, Any] = {"recipient_phone": new_phone(), "content": "Just you", "scheduled_at": NOW}
    row = BroadcastMessage(user_id=device.user_id, device_id=device.id, source=ONE_OFF, **{**defaults, **columns})
    session.add(row)
    await session.flush()
    return row.id


async def suppress(session: AsyncSession, user_id: UUID, phone: str) -> None:
    """Someone has replied STOP."""
    session.add(Suppression(user_id=user_id, phone=phone, reason="STOP"))
    await session.flush()
