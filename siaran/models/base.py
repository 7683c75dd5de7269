"""What all tables share: naming of constraints, column types, the owner column."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, DateTime, Dialect, ForeignKey, Identity, MetaData, Text, TypeDecorator, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Base of all tables; every instant is `timestamptz`, every string `text`."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text()}  # noqa: RUF012 -- SQLAlchemy's own declaration


Uuid = Annotated[UUID, mapped_column(primary_key=True, default=uuid4)]
BigId = Annotated[int, mapped_column(BigInteger, Identity(always=True), primary_key=True)]
CreatedAt = Annotated[datetime, mapped_column(server_default=func.now())]
UpdatedAt = Annotated[datetime, mapped_column(server_default=func.now(), onupdate=func.now())]


class Owned:
    """Mixin of tenant tables: the user whose row it is. Every query on such a table names it."""

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))


class TextEnum(TypeDecorator[StrEnum]):
    """A `text` column that holds the values of a `StrEnum`, and loads as its members."""

    impl = Text
    cache_ok = True

    def __init__(self, members: type[StrEnum]) -> None:
        self.members = members
        super().__init__()

    def process_bind_param(self, value: StrEnum | None, _dialect: Dialect) -> str | None:
        """To the database; a plain string must be one of the values."""
        return None if value is None else self.members(value).value

    def process_result_value(self, value: str | None, _dialect: Dialect) -> StrEnum | None:
        """From the database."""
        return None if value is None else self.members(value)


def one_of(column: str, values: type) -> str:
    """The SQL condition of a CHECK constraint that a column holds one of a `StrEnum`'s values."""
    listed = ", ".join(f"'{value}'" for value in values)  # type: ignore[attr-defined]  # an enum class is iterable
    return f"{column} IN ({listed})"
