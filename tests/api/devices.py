"""What tests of devices begin with: devices of someone, linked ones, and messages that wait on them."""

from datetime import date, datetime, time
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import (
    BroadcastMessage,
    Campaign,
    CampaignCount,
    CampaignStatus,
    Device,
    MessageStatus,
    TargetStatus,
    campaign_source,
)


async def add_device(client: AsyncClient, name: str = "Front desk", **fields: object) -> UUID:
    """Add a device; returns its id."""
    answer = await client.post("/api/devices", json={"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["results"]["device"]["id"])


async def add_linked_device(client: AsyncClient, name: str = "Front desk") -> UUID:
    """Add a device and link it; returns its id."""
    device_id = await add_device(client, name)
    answer = await client.post(f"/api/devices/{device_id}/link/simulate")
    assert answer.status_code == 200, answer.text
    return device_id


async def read_device(client: AsyncClient, device_id: UUID) -> dict[str, object]:
    """The device as its owner sees it."""
    answer = await client.get(f"/api/devices/{device_id}")
    assert answer.status_code == 200, answer.text
    results: dict[str, object] = answer.json()["results"]
    return results


async def add_messages(
    session: AsyncSession,
    device_id: UUID,
    count: int,
    *,
    status: MessageStatus = MessageStatus.PENDING,
    at: datetime,
    title: str = "Promo",
) -> int:
    """Put messages of a new campaign on a device; returns the campaign's id."""
    device = await session.get_one(Device, device_id)
    campaign = Campaign(
        user_id=device.user_id,
        title=title,
        target_status=TargetStatus.PROSPECT,
        message="Hi",
        campaign_date=date(2026, 1, 1),
        scheduled_time=time(9),
        scheduled_at=at,
        status=CampaignStatus.SENDING,
        expanded_at=at,
    )
    session.add(campaign)
    await session.flush()
    session.add_all(
        BroadcastMessage(
            user_id=device.user_id,
            device_id=device_id,
            campaign_id=campaign.id,
            source=campaign_source(campaign.id),
            recipient_phone=f"6012{number:07d}",
            status=status,
            scheduled_at=at,
        )
        for number in range(count)
    )
    pending = count if status is MessageStatus.PENDING else 0
    session.add(CampaignCount(user_id=device.user_id, campaign_id=campaign.id, device_id=device_id, pending=pending))
    await session.commit()
    return campaign.id
