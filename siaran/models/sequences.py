"""Sequences, their steps, and every contact's place in them."""

from datetime import date, datetime, time
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, Uuid, one_of
from siaran.models.campaigns import DeviceStrategy


class SequenceStatus(StrEnum):
    """Whether a sequence moves its contacts on."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"


class EnrollmentStatus(StrEnum):
    """Where a contact stands in a sequence."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    LEFT = "left"
    REMOVED = "removed"


class Sequence(Owned, Base):
    """A named project of daily steps; `target_status` may be `all`.

    Leads that changed before `enrolled_until_at` have been looked at for enrolling; None is to look at all. `resumed_at` is
    when it became active last: a step that was due before is put off by whole days until it is not.
    """

    __tablename__ = "sequences"

    id: Mapped[Uuid]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    name: Mapped[str]
    description: Mapped[str] = mapped_column(default="")
    niche: Mapped[str] = mapped_column(default="")
    target_status: Mapped[str] = mapped_column(default="all")
    status: Mapped[SequenceStatus] = mapped_column(TextEnum(SequenceStatus), default=SequenceStatus.DRAFT)
    time_schedule: Mapped[time | None]
    min_delay_seconds: Mapped[int] = mapped_column(default=10)
    max_delay_seconds: Mapped[int] = mapped_column(default=30)
    device_strategy: Mapped[DeviceStrategy] = mapped_column(TextEnum(DeviceStrategy), default=DeviceStrategy.BALANCED)
    leave_on_reply: Mapped[bool] = mapped_column(default=False)
    leave_on_opt_out: Mapped[bool] = mapped_column(default=True, server_default="true")
    enrolled_until_at: Mapped[datetime | None]
    resumed_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint("target_status IN ('prospect', 'customer', 'all')", name="target_status"),
        CheckConstraint(one_of("status", SequenceStatus), name="status"),
        CheckConstraint(one_of("device_strategy", DeviceStrategy), name="device_strategy"),
        CheckConstraint("min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name="delays"),
        Index(None, "user_id", "created_at"),
    )


class SequenceStep(Owned, Base):
    """One day's message of a sequence; unset times and delays are the sequence's.

    A step that was taken out keeps its row, because messages refer to it, with `deleted_at`: only rows without it are steps.
    Put back in for the same day, it is the same step again.
    """

    __tablename__ = "sequence_steps"

    id: Mapped[Uuid]
    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequences.id"))
    day: Mapped[int]
    message_type: Mapped[str] = mapped_column(default="text")
    content: Mapped[str] = mapped_column(default="")
    media_url: Mapped[str | None]
    caption: Mapped[str | None]
    send_time: Mapped[time | None]
    min_delay_seconds: Mapped[int | None]
    max_delay_seconds: Mapped[int | None]
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        UniqueConstraint("sequence_id", "day"),
        CheckConstraint("day >= 1", name="day"),
        CheckConstraint("message_type IN ('text', 'image', 'video', 'document')", name="message_type"),
    )


class Enrollment(Owned, Base):
    """One contact in one sequence; `cycle` rises when the contact starts over.

    Day 1 is the local date `day_one_on`, and its clock time `day_one_time`; `shifted_days` is what pauses have put later steps
    off by. `current_day` is the last day that was queued or skipped. `workflow_started_at` is None while nobody has started the
    contact's workflow, and `left_because` says why a contact left. `resumed_at` is for one contact what it is for a sequence.
    `wanted_at` is set where a change of the row has to reach the contact's workflow, which has not been told yet.
    """

    __tablename__ = "sequence_contacts"

    id: Mapped[BigId]
    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequences.id"))
    lead_id: Mapped[int | None] = mapped_column(BigInteger)
    contact_phone: Mapped[str]
    contact_name: Mapped[str] = mapped_column(default="")
    cycle: Mapped[int] = mapped_column(default=0)
    current_step: Mapped[int] = mapped_column(default=0)
    current_day: Mapped[int] = mapped_column(default=0)
    day_one_on: Mapped[date | None]
    day_one_time: Mapped[time | None]
    shifted_days: Mapped[int] = mapped_column(default=0)
    status: Mapped[EnrollmentStatus] = mapped_column(TextEnum(EnrollmentStatus), default=EnrollmentStatus.ACTIVE)
    paused_at: Mapped[datetime | None]
    resumed_at: Mapped[datetime | None]
    left_because: Mapped[str | None]
    workflow_started_at: Mapped[datetime | None]
    wanted_at: Mapped[datetime | None]
    enrolled_at: Mapped[CreatedAt]
    last_message_at: Mapped[datetime | None]
    next_send_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("sequence_id", "contact_phone"),
        CheckConstraint(one_of("status", EnrollmentStatus), name="status"),
        Index(None, "user_id", "sequence_id", "id"),
        Index(None, "sequence_id", "status", "next_send_at"),
        Index(None, "user_id", "contact_phone"),
        # One workflow for each lead of a sequence, whatever becomes of the lead's phone.
        Index("uq_sequence_contacts_lead", "sequence_id", "lead_id", unique=True, postgresql_where=text("lead_id IS NOT NULL")),
        Index("ix_sequence_contacts_unstarted", "sequence_id", "id", postgresql_where=text("workflow_started_at IS NULL")),
        Index("ix_sequence_contacts_wanted", "sequence_id", "id", postgresql_where=text("wanted_at IS NOT NULL")),
    )


class SequenceLog(Owned, Base):
    """What happened to a contact in a sequence, kept after the sequence is gone."""

    __tablename__ = "sequence_logs"

    id: Mapped[BigId]
    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequences.id"))
    enrollment_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sequence_contacts.id"))
    step_id: Mapped[UUID | None]
    event: Mapped[str]
    detail: Mapped[str | None]
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index(None, "user_id", "sequence_id", "id"), Index(None, "enrollment_id", "id"))


class SequenceRetry(Owned, Base):
    """A person's request to send one step of a contact again, until the contact's workflow has carried it out.

    It takes a message that failed and can be retried, or one of which nobody can tell, if it was last tried before
    `requested_at`. There is one open request for a message at most.
    """

    __tablename__ = "sequence_retries"

    id: Mapped[BigId]
    sequence_id: Mapped[UUID] = mapped_column(ForeignKey("sequences.id"))
    enrollment_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("sequence_contacts.id"))
    message_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("broadcast_messages.id"))
    requested_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    requested_at: Mapped[datetime]
    done_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_sequence_retries_open", "message_id", unique=True, postgresql_where=text("done_at IS NULL")),
        Index("ix_sequence_retries_open", "sequence_id", "id", postgresql_where=text("done_at IS NULL")),
    )
