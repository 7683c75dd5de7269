"""Chats and their messages as a device saw them."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned


class Chat(Owned, Base):
    """One conversation of a device."""

    __tablename__ = "whatsapp_chats"

    id: Mapped[BigId]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    chat_id: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    last_message: Mapped[str] = mapped_column(default="")
    last_message_at: Mapped[datetime | None]
    unread: Mapped[int] = mapped_column(default=0)
    is_group: Mapped[bool] = mapped_column(default=False)
    is_muted: Mapped[bool] = mapped_column(default=False)
    avatar_url: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("device_id", "chat_id"),
        Index(None, "user_id", "device_id", "last_message_at"),
    )


class ChatMessage(Owned, Base):
    """One message of a conversation, incoming or outgoing."""

    __tablename__ = "whatsapp_messages"

    id: Mapped[BigId]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    chat_id: Mapped[str]
    message_id: Mapped[str]
    is_outgoing: Mapped[bool]
    sender: Mapped[str] = mapped_column(default="")
    text: Mapped[str] = mapped_column(default="")
    media_type: Mapped[str | None]
    media_url: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="")
    sent_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        UniqueConstraint("device_id", "chat_id", "message_id"),
        Index(None, "user_id", "device_id", "chat_id", "sent_at", "id"),
    )
