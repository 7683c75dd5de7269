"""Devices, the hosts that hold their connections, and their lanes."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, Uuid, one_of


class DeviceStatus(StrEnum):
    """What a user sees of a device's connection."""

    OFFLINE = "offline"
    CONNECTING = "connecting"
    ONLINE = "online"
    LOGGED_OUT = "logged_out"
    BANNED = "banned"


class TransportKind(StrEnum):
    """Which implementation of the transport a device uses."""

    SIMULATED = "simulated"
    WHATSAPP = "whatsapp"


class LaneState(StrEnum):
    """Whether a device's lane workflow runs, waits for something, or has ended."""

    ASLEEP = "asleep"
    RUNNING = "running"
    WAITING = "waiting"


class Host(Base):
    """A process that holds connections. Its id is the epoch that fences claims: ids only rise."""

    __tablename__ = "hosts"

    id: Mapped[BigId]
    server: Mapped[str]
    transport: Mapped[TransportKind] = mapped_column(TextEnum(TransportKind))
    capacity: Mapped[int]
    pid: Mapped[int | None]
    started_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("transport", TransportKind), name="transport"),
        Index("ix_hosts_live", "server", postgresql_where=text("ended_at IS NULL")),
    )


class Device(Owned, Base):
    """One WhatsApp account linked to one user; deleting it keeps the row for the reports.

    While it warms up, its cap of a day is `warm_up_first_day` messages on the first day and `warm_up_daily_step` more on each
    day after, until `max_per_day` is reached.
    """

    __tablename__ = "user_devices"

    id: Mapped[Uuid]
    device_name: Mapped[str]
    phone: Mapped[str] = mapped_column(default="")
    jid: Mapped[str | None]
    status: Mapped[DeviceStatus] = mapped_column(TextEnum(DeviceStatus), default=DeviceStatus.OFFLINE)
    transport: Mapped[TransportKind] = mapped_column(TextEnum(TransportKind), default=TransportKind.SIMULATED)
    link_generation: Mapped[int] = mapped_column(default=0)
    is_active: Mapped[bool] = mapped_column(default=True)
    max_per_minute: Mapped[int] = mapped_column(default=20)
    max_per_hour: Mapped[int] = mapped_column(default=500)
    max_per_day: Mapped[int] = mapped_column(default=5000)
    min_delay_seconds: Mapped[int] = mapped_column(default=10)
    max_delay_seconds: Mapped[int] = mapped_column(default=30)
    warm_up_started_at: Mapped[datetime | None]
    warm_up_first_day: Mapped[int | None]
    warm_up_daily_step: Mapped[int | None]
    host_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("hosts.id"))
    last_seen: Mapped[datetime | None]
    offline_since_at: Mapped[datetime | None]
    restricted_until_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    last_error_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint(one_of("status", DeviceStatus), name="status"),
        CheckConstraint(one_of("transport", TransportKind), name="transport"),
        CheckConstraint("max_per_minute > 0 AND max_per_hour > 0 AND max_per_day > 0", name="caps"),
        CheckConstraint("min_delay_seconds >= 0 AND max_delay_seconds >= min_delay_seconds", name="delays"),
        CheckConstraint("warm_up_first_day > 0 AND warm_up_daily_step > 0", name="warm_up"),
        Index("ix_user_devices_user", "user_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
        Index("ix_user_devices_host_id", "host_id", postgresql_where=text("host_id IS NOT NULL")),
        Index("ix_user_devices_linked", "transport", postgresql_where=text("jid IS NOT NULL AND deleted_at IS NULL")),
        Index("uq_user_devices_jid", "jid", unique=True, postgresql_where=text("jid IS NOT NULL AND deleted_at IS NULL")),
    )


class Lane(Owned, Base):
    """The lane of a device: what its workflow does, and what the worker page shows of it."""

    __tablename__ = "lanes"

    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"), primary_key=True)
    state: Mapped[LaneState] = mapped_column(TextEnum(LaneState), default=LaneState.ASLEEP)
    wakes: Mapped[int] = mapped_column(BigInteger, default=0)
    waiting_for: Mapped[str | None]
    waiting_until_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    last_source: Mapped[str] = mapped_column(Text(collation="C"), default="")
    next_send_at: Mapped[datetime | None]
    processed: Mapped[int] = mapped_column(BigInteger, default=0)
    failed: Mapped[int] = mapped_column(BigInteger, default=0)
    current_campaign_id: Mapped[int | None] = mapped_column(BigInteger)
    current_sequence_id: Mapped[UUID | None]
    last_activity_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint(one_of("state", LaneState), name="state"),
        Index(None, "user_id"),
        Index("ix_lanes_awake", "state", postgresql_where=text("state <> 'asleep'")),
        # Rewritten at every group commit of its device.
        {"postgresql_with": {"fillfactor": 50}},
    )
