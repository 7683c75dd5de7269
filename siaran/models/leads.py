"""Leads and the phones that must not be written to."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, one_of


class TargetStatus(StrEnum):
    """Where a lead stands; a campaign addresses one of them."""

    PROSPECT = "prospect"
    CUSTOMER = "customer"


class Lead(Owned, Base):
    """A contact, unique by (user, phone). `niche` is what the user wrote, `niches` its whole tags in upper case."""

    __tablename__ = "leads"

    id: Mapped[BigId]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    name: Mapped[str]
    phone: Mapped[str]
    niche: Mapped[str] = mapped_column(default="")
    niches: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    journey: Mapped[str] = mapped_column(default="")
    status: Mapped[str] = mapped_column(default="new")
    target_status: Mapped[TargetStatus] = mapped_column(TextEnum(TargetStatus), default=TargetStatus.PROSPECT)
    source: Mapped[str] = mapped_column(default="manual")
    consent_source: Mapped[str | None]
    consent_at: Mapped[datetime | None]
    last_interaction: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        UniqueConstraint("user_id", "phone"),
        CheckConstraint(one_of("target_status", TargetStatus), name="target_status"),
        CheckConstraint("phone ~ '^[0-9]{6,15}$'", name="phone"),
        Index(None, "user_id", "id"),
        Index(None, "user_id", "target_status", "id"),
        Index(None, "user_id", "device_id", "id"),
        Index(None, "user_id", "updated_at", "id"),
        Index("ix_leads_niches", "user_id", "niches", postgresql_using="gin"),
    )


class Suppression(Owned, Base):
    """A phone that a user must not write to any more; lifted ones keep their row.

    `campaign_id` is the campaign that the contact had been sent last; `confirmed_at` is when the confirmation was queued, once.
    """

    __tablename__ = "suppressions"

    id: Mapped[BigId]
    phone: Mapped[str]
    reason: Mapped[str]
    source: Mapped[str] = mapped_column(default="manual")
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    campaign_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("campaigns.id"))
    confirmed_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    lifted_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_suppressions_in_force", "user_id", "phone", unique=True, postgresql_where=text("lifted_at IS NULL")),
        Index("ix_suppressions_campaign", "campaign_id", postgresql_where=text("campaign_id IS NOT NULL")),
        Index(None, "user_id", "id"),
    )
