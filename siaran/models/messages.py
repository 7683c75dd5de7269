"""The ledger: one row per message, one per attempt, and receipts that came before their record."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, Uuid, one_of


class MessageStatus(StrEnum):
    """Where a message stands; a rank only rises, except by a retry."""

    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"


class AttemptOutcome(StrEnum):
    """How an attempt ended; `open` while nobody knows."""

    OPEN = "open"
    SENT = "sent"
    REJECTED = "rejected"
    NOT_ATTEMPTED = "not_attempted"
    UNKNOWN = "unknown"


ONE_OFF = "!"
"""The source of one-off messages; it sorts before every campaign and sequence, and goes first."""


def campaign_source(campaign_id: int) -> str:
    """The `source` of a campaign's messages: what a lane takes turns between."""
    return f"campaign:{campaign_id}"


def sequence_source(sequence_id: UUID) -> str:
    """The `source` of a sequence's messages."""
    return f"sequence:{sequence_id}"


BROADCASTS = "broadcast:", "broadcast;"
"""What the sources of broadcasts lie between."""


def broadcast_source(broadcast_id: UUID) -> str:
    """The `source` of a broadcast's messages."""
    return f"{BROADCASTS[0]}{broadcast_id}"


class BroadcastMessage(Owned, Base):
    """One recipient of one campaign, of one step, of a broadcast, or of a one-off message.

    `content` and `media_url` are set for one-off messages and broadcasts only: campaigns and steps are read at the claim, so
    that an edit reaches everyone who has not been sent to, and every attempt keeps what it transmitted. `ignores_opt_out` marks
    the one message that a contact still gets after opting out: the confirmation.
    """

    __tablename__ = "broadcast_messages"

    id: Mapped[BigId]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    campaign_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("campaigns.id"))
    sequence_id: Mapped[UUID | None] = mapped_column(ForeignKey("sequences.id"))
    enrollment_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("sequence_contacts.id"))
    step_id: Mapped[UUID | None] = mapped_column(ForeignKey("sequence_steps.id"))
    cycle: Mapped[int] = mapped_column(default=0)
    lead_id: Mapped[int | None] = mapped_column(BigInteger)
    source: Mapped[str] = mapped_column(Text(collation="C"))
    recipient_phone: Mapped[str]
    recipient_name: Mapped[str] = mapped_column(default="")
    recipient_niche: Mapped[str] = mapped_column(default="")
    message_type: Mapped[str] = mapped_column(default="text")
    content: Mapped[str | None]
    media_url: Mapped[str | None]
    status: Mapped[MessageStatus] = mapped_column(TextEnum(MessageStatus), default=MessageStatus.PENDING)
    attempt: Mapped[int] = mapped_column(default=0, server_default="0")
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    is_retryable: Mapped[bool] = mapped_column(default=False, server_default="false")
    ignores_opt_out: Mapped[bool] = mapped_column(default=False, server_default="false")
    scheduled_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint(one_of("status", MessageStatus), name="status"),
        UniqueConstraint("campaign_id", "recipient_phone"),
        Index(
            "uq_broadcast_messages_step",
            "enrollment_id",
            "cycle",
            "step_id",
            unique=True,
            postgresql_where=text("enrollment_id IS NOT NULL"),
        ),
        Index(
            "ix_broadcast_messages_lane",
            "device_id",
            "source",
            "scheduled_at",
            "id",
            postgresql_where=text("status = 'pending'"),
        ),
        Index("ix_broadcast_messages_claimed", "device_id", postgresql_where=text("status = 'claimed'")),
        Index("ix_broadcast_messages_campaign", "campaign_id", "status", "device_id", "id"),
        Index(
            "ix_broadcast_messages_sequence",
            "sequence_id",
            "status",
            "id",
            postgresql_include=["step_id"],
            postgresql_where=text("sequence_id IS NOT NULL"),
        ),
        Index("ix_broadcast_messages_recipient", "user_id", "recipient_phone", "sent_at"),
        {
            "postgresql_with": {
                "fillfactor": 70,
                "autovacuum_vacuum_scale_factor": 0.02,
                "autovacuum_analyze_scale_factor": 0.05,
                "autovacuum_vacuum_insert_scale_factor": 0.05,
            }
        },
    )


class MessageAttempt(Owned, Base):
    """One try to transmit a message, written before the try: which host, which link, what was said, how it ended."""

    __tablename__ = "message_attempts"

    message_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("broadcast_messages.id"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True)
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    host_id: Mapped[int] = mapped_column(BigInteger)
    link_generation: Mapped[int]
    whatsapp_id: Mapped[str | None]
    outcome: Mapped[AttemptOutcome] = mapped_column(TextEnum(AttemptOutcome), default=AttemptOutcome.OPEN)
    error_code: Mapped[str | None]
    content: Mapped[str]
    media_url: Mapped[str | None]
    attempted_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("outcome", AttemptOutcome), name="outcome"),
        Index(None, "device_id", "attempted_at"),
        Index(
            "ix_message_attempts_whatsapp_id",
            "device_id",
            "whatsapp_id",
            postgresql_where=text("whatsapp_id IS NOT NULL"),
        ),
        {"postgresql_with": {"fillfactor": 80}},
    )


class OneOffKey(Owned, Base):
    """A caller's own name for a one-off message, so that asking again sends nothing again; `digest` is of what was asked."""

    __tablename__ = "one_off_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes]
    message_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("broadcast_messages.id"))
    created_at: Mapped[CreatedAt]


class Broadcast(Owned, Base):
    """One message to a list of numbers, from one device: rows of the ledger of its own source, between two ids.

    `key` is the caller's own name for it, `digest` is of what was asked under that name.
    """

    __tablename__ = "broadcasts"

    id: Mapped[Uuid]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    message_type: Mapped[str]
    content: Mapped[str]
    media_url: Mapped[str | None]
    messages: Mapped[int]
    first_message_id: Mapped[int] = mapped_column(BigInteger)
    last_message_id: Mapped[int] = mapped_column(BigInteger)
    key: Mapped[str | None]
    digest: Mapped[bytes]
    cancelled_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("user_id", "key"), Index(None, "user_id", "created_at"))


class UnmatchedReceipt(Owned, Base):
    """A receipt that arrived before the record of its attempt; joined, and removed, when the record is written."""

    __tablename__ = "message_receipts"

    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"), primary_key=True)
    whatsapp_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime]


class MessageAnalytics(Owned, Base):
    """Counts per day (in the user's zone) and device, for the analytics pages.

    A message that was sent counts on the day of its `sent_at`, there as delivered and read too, whenever that was; one that
    failed, or of which nobody can tell, counts as failed on the day on which it was tried.
    """

    __tablename__ = "message_analytics"

    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    sent: Mapped[int] = mapped_column(server_default="0")
    delivered: Mapped[int] = mapped_column(server_default="0")
    read: Mapped[int] = mapped_column(server_default="0")
    replied: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")

    # Rewritten at every group commit of its device.
    __table_args__ = (Index(None, "user_id", "day"), {"postgresql_with": {"fillfactor": 50}})
