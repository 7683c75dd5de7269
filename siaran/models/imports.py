"""Imports of leads from uploaded files: how far each has come, the file while it is needed, and what became of its rows."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from siaran.models.base import Base, CreatedAt, Owned, TextEnum, Uuid, one_of


class ImportStatus(StrEnum):
    """Where an import of leads stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LeadImport(Owned, Base):
    """An import of leads from an uploaded file; `rows_done` and the counts are those of the batches committed so far.

    `columns` says which of the file's columns holds which of ours, as found when the file came in; `country` is that of phones
    written without one; `updated_at` is when it was last worked on. Once `cleared_at`, what became of single rows is gone.
    """

    __tablename__ = "lead_imports"

    id: Mapped[Uuid]
    device_id: Mapped[UUID | None] = mapped_column(ForeignKey("user_devices.id"))
    file_name: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    is_dry_run: Mapped[bool] = mapped_column(default=False)
    columns: Mapped[dict[str, str]] = mapped_column(JSONB, default=dict)
    delimiter: Mapped[str] = mapped_column(default=",", server_default=",")
    country: Mapped[str] = mapped_column(default="MY", server_default="MY")
    status: Mapped[ImportStatus] = mapped_column(TextEnum(ImportStatus), default=ImportStatus.QUEUED)
    bytes_done: Mapped[int] = mapped_column(BigInteger, default=0)
    rows_done: Mapped[int] = mapped_column(default=0)
    counts: Mapped[dict[str, int]] = mapped_column(JSONB, default=dict)
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    started_at: Mapped[datetime | None]
    updated_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    cleared_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(one_of("status", ImportStatus), name="status"),
        Index(None, "user_id", "created_at"),
        Index("ix_lead_imports_open", "updated_at", postgresql_where=text("status IN ('queued', 'running')")),
        Index("ix_lead_imports_to_clear", "finished_at", postgresql_where=text("cleared_at IS NULL")),
    )


class ImportChunk(Owned, Base):
    """A piece of an uploaded file, in order from position 0; gone once the import has ended."""

    __tablename__ = "lead_import_chunks"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("lead_imports.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportRejection(Owned, Base):
    """A batch's rejected rows as CSV; all of them in order are the file to download. Position 0 is the header."""

    __tablename__ = "lead_import_rejections"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("lead_imports.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ImportRow(Owned, Base):
    """What became of one row of the file, or would; `line` is where it begins. Kept of the first rows only."""

    __tablename__ = "lead_import_rows"

    import_id: Mapped[UUID] = mapped_column(ForeignKey("lead_imports.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    phone: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
