"""Users and what they log in with."""

from datetime import datetime, time
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, SmallInteger, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, UpdatedAt, Uuid, one_of


class Role(StrEnum):
    """What a user may see beyond their own rows."""

    USER = "user"
    ADMIN = "admin"


OPT_OUT_WORDS = ("STOP", "BERHENTI", "UNSUBSCRIBE")
"""What a contact may answer to be left alone, until the user lists words of their own."""


class User(Base):
    """An account that logs in; owns devices, leads, campaigns and sequences.

    Between `quiet_from` and `quiet_until` (local time), and on days that are not in `sending_weekdays` (1 is Monday), nothing
    is sent. A contact gets at most `contact_limit` messages in `contact_limit_days` days; None is no limit. `opt_out_reply` is
    sent once to who opts out, unless empty. `auto_reply` answers contacts, each at most once in `auto_reply_minutes`; None is
    the default of the installation, an empty text none at all.
    """

    __tablename__ = "users"

    id: Mapped[Uuid]
    email: Mapped[str]
    full_name: Mapped[str]
    password_hash: Mapped[str]
    role: Mapped[Role] = mapped_column(TextEnum(Role), default=Role.USER)
    timezone: Mapped[str]
    country: Mapped[str]
    is_active: Mapped[bool] = mapped_column(default=True)
    quiet_from: Mapped[time | None]
    quiet_until: Mapped[time | None]
    sending_weekdays: Mapped[list[int]] = mapped_column(ARRAY(SmallInteger), default=lambda: [1, 2, 3, 4, 5, 6, 7])
    contact_limit: Mapped[int | None]
    contact_limit_days: Mapped[int] = mapped_column(default=7)
    opt_out_words: Mapped[list[str]] = mapped_column(ARRAY(Text), default=lambda: list(OPT_OUT_WORDS))
    opt_out_reply: Mapped[str] = mapped_column(default="")
    auto_reply: Mapped[str | None]
    auto_reply_minutes: Mapped[int] = mapped_column(default=1440, server_default="1440")
    password_changed_at: Mapped[CreatedAt]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[UpdatedAt]

    __table_args__ = (
        CheckConstraint(one_of("role", Role), name="role"),
        CheckConstraint("(quiet_from IS NULL) = (quiet_until IS NULL)", name="quiet_hours"),
        CheckConstraint("contact_limit > 0 AND contact_limit_days > 0", name="contact_limit"),
        CheckConstraint("auto_reply_minutes > 0", name="auto_reply_minutes"),
        CheckConstraint("sending_weekdays <@ ARRAY[1,2,3,4,5,6,7]::smallint[]", name="sending_weekdays"),
        Index("uq_users_email", func.lower(text("email")), unique=True),
    )


class UserSession(Owned, Base):
    """A login; `token_hash` is the SHA-256 of the cookie's value. Ended by deleting the row."""

    __tablename__ = "user_sessions"

    id: Mapped[Uuid]
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    user_agent: Mapped[str] = mapped_column(default="")
    address: Mapped[str] = mapped_column(default="")
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]

    __table_args__ = (Index(None, "user_id"), Index(None, "expires_at"))


class ApiKey(Owned, Base):
    """A key for scripts; `key_hash` is the SHA-256 of the whole key, `prefix` its visible beginning."""

    __tablename__ = "api_keys"

    id: Mapped[Uuid]
    name: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[bytes] = mapped_column(unique=True)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[CreatedAt]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "user_id"),)


class PasswordReset(Owned, Base):
    """A one-time link that an administrator created; `token_hash` is the SHA-256 of its token."""

    __tablename__ = "password_resets"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class AuditEntry(Base):
    """What an administrator, or the system on someone's behalf, did to whose row."""

    __tablename__ = "audit_log"

    id: Mapped[BigId]
    actor_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    owner_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    action: Mapped[str]
    subject: Mapped[str]
    details: Mapped[dict[str, object]] = mapped_column(JSONB, default=dict)
    address: Mapped[str] = mapped_column(default="")
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index(None, "created_at"), Index(None, "owner_id", "created_at"))
