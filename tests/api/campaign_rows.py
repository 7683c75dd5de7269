"""Rows that the send path would write: devices online, leads, messages with their counters."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from httpx import AsyncClient
from sqlalchemy import func, insert, select, text, update

from siaran.db import SessionMaker
from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignCount,
    Device,
    DeviceStatus,
    Host,
    Lane,
    Lead,
    MessageStatus,
    Suppression,
    User,
    campaign_source,
)
from siaran.niches import parse_niches

Row = dict[str, Any]
"""An object of an answer."""

_phones = count(60120000000)

TOMORROW = (datetime.now(ZoneInfo("Asia/Kuala_Lumpur")) + timedelta(days=1)).date().isoformat()
"""In the zone of a new user."""


async def create(client: AsyncClient, **fields: Any) -> Row:
    """A campaign for tomorrow, created through the API."""
    body = {"title": "Promo", "target_status": "prospect", "message": "Hi {{name}}", "campaign_date": TOMORROW, **fields}
    answer = await client.post("/api/campaigns", json=body)
    assert answer.status_code == 201, answer.text
    created: Row = answer.json()["results"]
    return created


async def show(client: AsyncClient, campaign_id: int) -> Row:
    """A campaign as its owner sees it."""
    answer = await client.get(f"/api/campaigns/{campaign_id}")
    assert answer.status_code == 200, answer.text
    shown: Row = answer.json()["results"]
    return shown


async def user_id_of(sessions: SessionMaker, email: str = "aisyah@example.com") -> UUID:
    """The id of a registered user."""
    async with sessions() as session:
        return (await session.scalars(select(User.id).where(User.email == email))).one()


async def set_campaign(sessions: SessionMaker, campaign_id: int, **columns: Any) -> None:
    """What a workflow would write into a campaign's row."""
    async with sessions.begin() as session:
        await session.execute(update(Campaign).where(Campaign.id == campaign_id).values(columns))


async def put_under_way(sessions: SessionMaker, campaign_id: int, status: str = "sending") -> None:
    """A campaign whose audience is in the ledger."""
    now = datetime.now(UTC)
    await set_campaign(sessions, campaign_id, status=status, started_at=now, expanded_at=now)


async def add_device(
    sessions: SessionMaker,
    user_id: UUID,
    name: str = "Front desk",
    *,
    status: DeviceStatus = DeviceStatus.ONLINE,
    **columns: Any,
) -> UUID:
    """A linked device with its lane, held by a live host if it is online."""
    device = {"user_id": user_id, "device_name": name, "status": status, "jid": f"{next(_phones)}@s.whatsapp.net", **columns}
    async with sessions.begin() as session:
        if status is DeviceStatus.ONLINE:
            host = {
                "server": "test",
                "transport": "simulated",
                "capacity": 10,
                "expires_at": func.now() + text("interval '1 day'"),
            }
            device["host_id"] = (await session.execute(insert(Host).values(host).returning(Host.id))).scalar_one()
        device_id = (await session.execute(insert(Device).values(device).returning(Device.id))).scalar_one()
        await session.execute(insert(Lane).values(device_id=device_id, user_id=user_id))
    return device_id


async def add_leads(
    sessions: SessionMaker, user_id: UUID, number: int, *, niche: str = "", suppressed: int = 0, **columns: Any
) -> None:
    """Prospects, the first of whom have opted out."""
    phones = [str(next(_phones)) for _ in range(number)]
    async with sessions.begin() as session:
        rows = [
            {"user_id": user_id, "name": "Ali", "phone": phone, "niche": niche, "niches": parse_niches(niche), **columns}
            for phone in phones
        ]
        await session.execute(insert(Lead), rows)
        opted_out = [{"user_id": user_id, "phone": phone, "reason": "STOP"} for phone in phones[:suppressed]]
        if opted_out:
            await session.execute(insert(Suppression), opted_out)


async def add_messages(
    sessions: SessionMaker,
    campaign: Row,
    device_id: UUID,
    statuses: Iterable[str],
    *,
    is_retryable: bool = True,
    **columns: Any,
) -> list[int]:
    """Rows of the ledger in these states, counted; returns their ids."""
    async with sessions.begin() as session:
        return [
            await _add_message(session, campaign, device_id, MessageStatus(status), is_retryable=is_retryable, columns=columns)
            for status in statuses
        ]


async def _add_message(
    session: Any,
    campaign: Row,
    device_id: UUID,
    status: MessageStatus,
    *,
    is_retryable: bool,
    columns: Row,
) -> int:
    now = datetime.now(UTC)
    was_sent = status in {MessageStatus.SENT, MessageStatus.DELIVERED, MessageStatus.READ}
    row = {
        "user_id": campaign["user_id"],
        "device_id": device_id,
        "campaign_id": campaign["id"],
        "source": campaign_source(campaign["id"]),
        "recipient_phone": str(next(_phones)),
        "recipient_name": "Siti",
        "status": status,
        "scheduled_at": now,
        "claimed_at": None if status is MessageStatus.PENDING else now,
        "sent_at": now if was_sent else None,
        "is_retryable": is_retryable and status is MessageStatus.FAILED,
        "error_code": "rate_limited" if status is MessageStatus.FAILED else None,
        **columns,
    }
    message_id: int = (await session.execute(insert(BroadcastMessage).values(row).returning(BroadcastMessage.id))).scalar_one()
    column = "pending" if status is MessageStatus.CLAIMED else status.value
    await session.execute(
        text(
            f"INSERT INTO campaign_counts (campaign_id, device_id, user_id, {column}) VALUES (:campaign, :device, :user, 1) "
            f"ON CONFLICT (campaign_id, device_id) DO UPDATE SET {column} = campaign_counts.{column} + 1"
        ),
        {"campaign": campaign["id"], "device": device_id, "user": campaign["user_id"]},
    )
    return message_id


async def counters(sessions: SessionMaker, campaign_id: int) -> list[CampaignCount]:
    """The counters of a campaign by device."""
    async with sessions() as session:
        return list(await session.scalars(select(CampaignCount).where(CampaignCount.campaign_id == campaign_id)))
