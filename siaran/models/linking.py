"""Links that are being made and links that are to be ended, for the fleets that see to them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, Uuid, one_of


class PairingMethod(StrEnum):
    """How an account is linked."""

    QR = "qr"
    CODE = "code"


class PairingStatus(StrEnum):
    """Where a linking stands; the last four are ends."""

    WANTED = "wanted"
    RUNNING = "running"
    LINKED = "linked"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Pairing(Owned, Base):
    """One try to link one device, in a process of its own; what is to be scanned or typed passes through Redis only.

    `error_code` and `error_message` say why it has failed.
    """

    __tablename__ = "pairings"

    id: Mapped[Uuid]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    method: Mapped[PairingMethod] = mapped_column(TextEnum(PairingMethod))
    phone: Mapped[str] = mapped_column(default="")
    status: Mapped[PairingStatus] = mapped_column(TextEnum(PairingStatus), default=PairingStatus.WANTED)
    server: Mapped[str | None]
    pid: Mapped[int | None]
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("method", PairingMethod), name="method"),
        CheckConstraint(one_of("status", PairingStatus), name="status"),
        Index("uq_pairings_open", "device_id", unique=True, postgresql_where=text("status IN ('wanted', 'running')")),
        Index(None, "user_id", "created_at"),
    )


class Unlinking(Owned, Base):
    """A link that its user has ended, until WhatsApp knows it too; the device itself may have a new link meanwhile."""

    __tablename__ = "unlinkings"

    id: Mapped[BigId]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    jid: Mapped[str]
    link_generation: Mapped[int]
    requested_at: Mapped[CreatedAt]
    tries: Mapped[int] = mapped_column(default=0)
    try_at: Mapped[CreatedAt]
    done_at: Mapped[datetime | None]
    error_code: Mapped[str | None]

    __table_args__ = (Index("ix_unlinkings_open", "try_at", postgresql_where=text("done_at IS NULL")),)
