"""What happened to a user's things, for the activity log."""

from uuid import UUID

from sqlalchemy import ForeignKey, Index
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, BigId, CreatedAt, Owned


class Activity(Owned, Base):
    """One line of the log: `kind` such as `campaign.paused`, what it was about, and details without texts or phone numbers."""

    __tablename__ = "activity_log"

    id: Mapped[BigId]
    kind: Mapped[str]
    subject: Mapped[str]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    details: Mapped[dict[str, object]] = mapped_column(JSONB, default=dict)
    created_at: Mapped[CreatedAt]

    __table_args__ = (Index(None, "user_id", "id"), Index(None, "user_id", "device_id", "id"))
