"""Chats and their messages as a device saw them."""

from datetime import date, datetime
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


class IncomingMessage(Owned, Base):
    """That a contact has written to a device, so that nothing is done twice about a message that is delivered again.

    `sender` is a phone; `whatsapp_id` is unique only per sender, who makes it. `day` is the date in the owner's zone, and
    `is_reply` says that the owner had written to the contact before. Kept for as long as WhatsApp may deliver a message again,
    whether or not chats are stored.
    """

    __tablename__ = "incoming_messages"

    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"), primary_key=True)
    sender: Mapped[str] = mapped_column(primary_key=True)
    whatsapp_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date]
    is_reply: Mapped[bool]
    received_at: Mapped[datetime]

    __table_args__ = (Index(None, "received_at", postgresql_using="brin"),)
