"""Campaigns, their counters and the requests to retry what failed."""

from datetime import date, datetime, time
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, Uuid, one_of
from siaran.models.leads import TargetStatus


class CampaignStatus(StrEnum):
    """A campaign's phase. `sending` and `waiting` may claim messages, the others may not."""

    SCHEDULED = "scheduled"
    SENDING = "sending"
    WAITING = "waiting"
    PAUSED = "paused"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"


class DeviceStrategy(StrEnum):
    """Which of the owner's devices writes to a contact."""

    BALANCED = "balanced"
    STICKY = "sticky"
    OWNER = "owner"


class Campaign(Owned, Base):
    """One message to all leads that match niche and target status, at a date and time.

    The audience is expanded once, page by page: `expansion_cursor` is the last lead id done, `expanded_at` the end of it. The
    first `canary_size` messages go out alone; the campaign pauses by itself when more than `stop_failed_percent` of what has
    ended failed, or more than `stop_opted_out_percent` of those written to opted out. `stop_baseline` holds the counts at which
    somebody resumed it after that: only what came later is judged.
    """

    __tablename__ = "campaigns"

    id: Mapped[BigId]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    title: Mapped[str]
    niche: Mapped[str] = mapped_column(default="")
    target_status: Mapped[TargetStatus] = mapped_column(TextEnum(TargetStatus))
    message: Mapped[str] = mapped_column(default="")
    image_url: Mapped[str | None]
    message_type: Mapped[str] = mapped_column(default="text")
    campaign_date: Mapped[date]
    scheduled_time: Mapped[time]
    scheduled_at: Mapped[datetime]
    min_delay_seconds: Mapped[int] = mapped_column(default=10)
    max_delay_seconds: Mapped[int] = mapped_column(default=30)
    device_strategy: Mapped[DeviceStrategy] = mapped_column(TextEnum(DeviceStrategy), default=DeviceStrategy.BALANCED)
    status: Mapped[CampaignStatus] = mapped_column(TextEnum(CampaignStatus), default=CampaignStatus.SCHEDULED)
    status_reason: Mapped[str | None]
    canary_size: Mapped[int | None]
    canary_passed_at: Mapped[datetime | None]
    stop_failed_percent: Mapped[int | None]
    stop_opted_out_percent: Mapped[int | None]
    stop_baseline: Mapped[dict[str, int]] = mapped_column(JSONB, default=dict, server_default="{}")
    expansion_cursor: Mapped[int] = mapped_column(BigInteger, default=0)
    expanded: Mapped[int] = mapped_column(default=0)
    expanded_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint(one_of("target_status", TargetStatus), name="target_status"),
        CheckConstraint(one_of("status", CampaignStatus), name="status"),
        CheckConstraint(one_of("device_strategy", DeviceStrategy), name="device_strategy"),
        CheckConstraint("message_type IN ('text', 'image', 'video', 'document')", name="message_type"),
        CheckConstraint("min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name="delays"),
        CheckConstraint("canary_size > 0", name="canary_size"),
        CheckConstraint("stop_failed_percent BETWEEN 1 AND 100", name="stop_failed_percent"),
        CheckConstraint("stop_opted_out_percent BETWEEN 1 AND 100", name="stop_opted_out_percent"),
        Index("ix_campaigns_user", "user_id", "scheduled_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_campaigns_open", "status", postgresql_where=text("status IN ('scheduled', 'sending', 'waiting')")),
    )


class CampaignCount(Owned, Base):
    """How many messages of a campaign are in which state on a device; `pending` includes the claimed ones."""

    __tablename__ = "campaign_counts"

    campaign_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("campaigns.id"), primary_key=True)
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"), primary_key=True)
    pending: Mapped[int] = mapped_column(Integer, server_default="0")
    sent: Mapped[int] = mapped_column(Integer, server_default="0")
    delivered: Mapped[int] = mapped_column(Integer, server_default="0")
    read: Mapped[int] = mapped_column(Integer, server_default="0")
    failed: Mapped[int] = mapped_column(Integer, server_default="0")
    unknown: Mapped[int] = mapped_column(Integer, server_default="0")
    suppressed: Mapped[int] = mapped_column(Integer, server_default="0")
    cancelled: Mapped[int] = mapped_column(Integer, server_default="0")

    __table_args__ = (
        Index(None, "user_id"),
        # Rewritten at every group commit of its device.
        {"postgresql_with": {"fillfactor": 50}},
    )


class CampaignRetry(Owned, Base):
    """A request to send failed messages again: all, those of one device, or one; carried out once, by its id."""

    __tablename__ = "campaign_retries"

    id: Mapped[Uuid]
    campaign_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("campaigns.id"))
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    message_id: Mapped[int | None] = mapped_column(BigInteger)
    requested_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    requested_at: Mapped[CreatedAt]
    queued: Mapped[int] = mapped_column(default=0)
    done_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_campaign_retries_open", "campaign_id", postgresql_where=text("done_at IS NULL")),
        Index(None, "user_id"),
    )
