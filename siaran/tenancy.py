"""The one entry to tenant tables: a query that starts here already names its owner."""

from typing import TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Delete, Select, Update, delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.errors import NotFound
from siaran.models.base import Owned

Model = TypeVar("Model", bound=Owned)


def select_owned(model: type[Model], user_id: UUID) -> Select[Model]:
    """`SELECT` of a user's own rows."""
    return select(model).where(model.user_id == user_id)


def update_owned(model: type[Model], user_id: UUID) -> Update:
    """`UPDATE` of a user's own rows."""
    return update(model).where(model.user_id == user_id)


def delete_owned(model: type[Model], user_id: UUID) -> Delete:
    """`DELETE` of a user's own rows."""
    return delete(model).where(model.user_id == user_id)


async def get_owned(
    session: AsyncSession, model: type[Model], user_id: UUID, *where: ColumnElement[bool], lock: bool = False
) -> Model:
    """The one row of a user that meets the conditions; raises `NotFound` for anyone else's and for none."""
    query = select_owned(model, user_id).where(*where)
    row = (await session.execute(query.with_for_update() if lock else query)).scalar_one_or_none()
    if row is None:
        raise NotFound(f"no such {model.__name__.lower()}")
    return row
