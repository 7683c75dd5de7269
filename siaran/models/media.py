"""Media that messages carry."""

from sqlalchemy import BigInteger, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, CreatedAt, Owned, Uuid


class Media(Owned, Base):
    """A file that was uploaded, or fetched once from `source_url`; unique by (user, content)."""

    __tablename__ = "media"

    id: Mapped[Uuid]
    sha256: Mapped[bytes]
    mime_type: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    file_name: Mapped[str]
    source_url: Mapped[str | None]
    content: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[CreatedAt]

    __table_args__ = (UniqueConstraint("user_id", "sha256"),)
