"""Webhooks and what has been, or is still to be, delivered to them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, Uuid, one_of


class DeliveryStatus(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Webhook(Owned, Base):
    """An address of a user's that is told of events. `secret` signs what is sent there and is shown once only."""

    __tablename__ = "webhooks"

    id: Mapped[Uuid]
    url: Mapped[str]
    secret: Mapped[str]
    events: Mapped[list[str]] = mapped_column(ARRAY(Text))
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]
    deleted_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id", "created_at"),)


class WebhookDelivery(Owned, Base):
    """One event for one address: written with what it tells of, delivered afterwards.

    `webhook_id` is None for the default addresses of the installation, which `target` tells apart (a digest of the address).
    `body` is exactly what is sent and signed. While pending, `try_at` is when it is tried next.
    """

    __tablename__ = "webhook_deliveries"

    id: Mapped[BigId]
    webhook_id: Mapped[UUID | None] = mapped_column(ForeignKey("webhooks.id"))
    target: Mapped[str]
    event: Mapped[str]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[DeliveryStatus] = mapped_column(TextEnum(DeliveryStatus), default=DeliveryStatus.PENDING)
    tries: Mapped[int] = mapped_column(default=0, server_default="0")
    try_at: Mapped[CreatedAt]
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    answer: Mapped[str | None]
    took_ms: Mapped[int | None]
    details: Mapped[dict[str, object]] = mapped_column(JSONB, default=dict, server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("status", DeliveryStatus), name="status"),
        Index("ix_webhook_deliveries_pending", "target", "try_at", "id", postgresql_where=text("status = 'pending'")),
        Index(None, "user_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_failed", "webhook_id", "id", postgresql_where=text("status = 'failed'")),
        Index(None, "created_at", postgresql_using="brin"),
    )
