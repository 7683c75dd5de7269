"""Chats and their messages as a device saw them."""

from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, UniqueConstraint, literal_column
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned, TextEnum, one_of


class ChatMediaState(StrEnum):
    """What has become of the file of a message that came in."""

    WAITING = "waiting"
    KEPT = "kept"
    TOO_LARGE = "too_large"
    GONE = "gone"


class Chat(Owned, Base):
    """One conversation of a device; `chat_id` is the other side's number, or the address of a group.

    `unread` counts the contact's messages that are later than `read_to_at`: until then all has been read, or was counted by the
    account's phone.
    """

    __tablename__ = "whatsapp_chats"

    id: Mapped[BigId]
    device_id: Mapped[UUID] = mapped_column(ForeignKey("user_devices.id"))
    chat_id: Mapped[str]
    name: Mapped[str] = mapped_column(default="")
    last_message: Mapped[str] = mapped_column(default="")
    last_message_at: Mapped[datetime | None]
    unread: Mapped[int] = mapped_column(default=0)
    read_to_at: Mapped[datetime | None]
    is_group: Mapped[bool] = mapped_column(default=False)
    is_muted: Mapped[bool] = mapped_column(default=False)
    avatar_url: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("device_id", "chat_id"),
        Index(None, "user_id", "device_id", "last_message_at"),
    )


class ChatMessage(Owned, Base):
    """One message of a conversation, incoming or outgoing; `message_id` is WhatsApp's.

    `status` is how far a message that the account sent itself has got; for Siaran's own the ledger says it. `media_reference`
    is what the file can be downloaded with while `media_state` is `waiting`; `media_url` is set for the files of Siaran's own
    messages, and of those that came in once they are kept.
    """

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
    media_state: Mapped[ChatMediaState | None] = mapped_column(TextEnum(ChatMediaState))
    media_mime_type: Mapped[str | None]
    media_file_name: Mapped[str | None]
    media_reference: Mapped[bytes | None] = mapped_column(deferred=True)
    media_tries: Mapped[int] = mapped_column(default=0, server_default="0")
    media_try_at: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(default="")
    sent_at: Mapped[datetime]
    created_at: Mapped[CreatedAt]

    __table_args__ = (
        CheckConstraint(one_of("media_state", ChatMediaState), name="media_state"),
        # Receipts name a device and a message, but no chat.
        UniqueConstraint("device_id", "message_id", "chat_id"),
        Index(None, "user_id", "device_id", "chat_id", "sent_at", "id"),
        Index(
            "ix_whatsapp_messages_waiting",
            "device_id",
            "media_try_at",
            postgresql_where=literal_column("media_state = 'waiting'"),
        ),
    )


class ChatMedia(Owned, Base):
    """The file of a message that came in."""

    __tablename__ = "chat_media"

    message_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("whatsapp_messages.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    mime_type: Mapped[str]
    file_name: Mapped[str]
    content: Mapped[bytes] = mapped_column(deferred=True)
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index(None, "user_id"),)


class AutoReply(Owned, Base):
    """When a contact was last answered automatically, and by which message."""

    __tablename__ = "auto_replies"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    phone: Mapped[str] = mapped_column(primary_key=True)
    replied_at: Mapped[datetime]
    message_id: Mapped[int | None] = mapped_column(BigInteger, ForeignKey("broadcast_messages.id"))


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
