"""What administrators do with users: list them, change their role, let them in or not, read the audit log."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from siaran.accounts import ADMINISTRATOR_LOCK, get_user
from siaran.credentials import end_sessions
from siaran.errors import Conflict
from siaran.models import AuditEntry, Role, User


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users to list; `None` leaves a condition out."""

    search: str | None = None
    role: Role | None = None
    is_active: bool | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries of the audit log to list; `None` leaves a condition out."""

    actor_id: UUID | None = None
    owner_id: UUID | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class AuditedAction:
    """An entry of the audit log with the emails of who did it and whose row it was."""

    entry: AuditEntry
    actor_email: str | None
    owner_email: str | None


async def list_users(
    session: AsyncSession, wanted: UserFilter, *, after: tuple[datetime, UUID] | None, limit: int
) -> Sequence[User]:
    """Users, newest first; `after` holds the creation time and id of the last user of the page before."""
    query = select(User).order_by(User.created_at.desc(), User.id.desc()).limit(limit)
    if wanted.search:
        part = wanted.search.strip()
        query = query.where(or_(User.email.icontains(part, autoescape=True), User.full_name.icontains(part, autoescape=True)))
    if wanted.role is not None:
        query = query.where(User.role == wanted.role)
    if wanted.is_active is not None:
        query = query.where(User.is_active == wanted.is_active)
    if after is not None:
        query = query.where(tuple_(User.created_at, User.id) < after)
    return (await session.scalars(query)).all()


async def change_user(
    session: AsyncSession, user_id: UUID, *, role: Role | None, is_active: bool | None
) -> tuple[User, dict[str, object]]:
    """Change a user's role or let them in or not; returns the user and what changed. A deactivated user's sessions end.

    Raises `NotFound`, and `Conflict` when nobody would be left to administrate.
    """
    # Two administrators who demote each other at the same moment must not both succeed.
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADMINISTRATOR_LOCK})
    user = await get_user(session, user_id, lock=True)
    changes: dict[str, object] = {}
    if role is not None and role != user.role:
        changes["role"] = {"from": str(user.role), "to": str(role)}
        user.role = role
    if is_active is not None and is_active != user.is_active:
        changes["is_active"] = {"from": user.is_active, "to": is_active}
        user.is_active = is_active
    if not is_active and "is_active" in changes:
        await end_sessions(session, user_id)
    await session.flush()
    if not await session.scalar(select(func.count()).where(User.role == Role.ADMIN, User.is_active)):
        raise Conflict("this is the last active administrator; make someone else one first")
    return user, changes


async def list_audit(session: AsyncSession, wanted: AuditFilter, *, before: int | None, limit: int) -> Sequence[AuditedAction]:
    """Entries of the audit log, newest first; `before` is the id of the last entry of the page before."""
    actor, owner = aliased(User), aliased(User)
    query = (
        select(AuditEntry, actor.email, owner.email)
        .outerjoin(actor, actor.id == AuditEntry.actor_id)
        .outerjoin(owner, owner.id == AuditEntry.owner_id)
        .order_by(AuditEntry.id.desc())
        .limit(limit)
    )
    if wanted.actor_id is not None:
        query = query.where(AuditEntry.actor_id == wanted.actor_id)
    if wanted.owner_id is not None:
        query = query.where(AuditEntry.owner_id == wanted.owner_id)
    if wanted.action is not None:
        query = query.where(AuditEntry.action == wanted.action)
    if before is not None:
        query = query.where(AuditEntry.id < before)
    return [AuditedAction(*row) for row in await session.execute(query)]
