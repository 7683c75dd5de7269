"""Users and the audit log, for administrators."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from api.auth import AdminDep, client_address
from api.context import ContextDep
from api.envelope import Envelope, ListEnvelope, listed, success
from api.paging import PagingDep
from siaran.accounts import get_user
from siaran.administration import AuditedAction, AuditFilter, UserFilter, change_user, list_audit, list_users
from siaran.audit import record_audit
from siaran.models import Role, User
from siaran.password_resets import create_reset

router = APIRouter(prefix="/api/admin", tags=["administration"])


class ManagedUser(BaseModel):
    """A user as administrators see them."""

    id: UUID
    email: str
    full_name: str = Field(serialization_alias="fullName")
    role: Role
    is_active: bool = Field(description="Whether the user may log in.")
    timezone: str
    country: str
    created_at: datetime


class UserChange(BaseModel):
    """What to change; what is left out stays."""

    role: Role | None = Field(None, description="What the user may see beyond their own rows.")
    is_active: bool | None = Field(None, description="Whether the user may log in; their open log-ins end at once.")


class ResetLink(BaseModel):
    """A one-time link; this is the only time that it is shown."""

    link: str = Field(description="Give it to the user, and to nobody else.")
    token: str = Field(description="For `POST /api/password-reset`.")
    expires_at: datetime


class AuditLine(BaseModel):
    """Who did what to whose row."""

    id: int
    created_at: datetime
    action: str = Field(examples=["user.changed"])
    subject: str = Field(examples=["campaign:17"])
    actor_id: UUID | None = Field(description="`null`: the system itself.")
    actor_email: str | None
    owner_id: UUID | None
    owner_email: str | None
    address: str
    details: dict[str, Any]


def _describe(user: User) -> ManagedUser:
    return ManagedUser.model_validate(user, from_attributes=True)


@router.get("/users")
async def read_users(
    _: AdminDep,
    context: ContextDep,
    paging: PagingDep,
    search: Annotated[str | None, Query(max_length=200, description="Part of an email or name.")] = None,
    role: Annotated[Role | None, Query(description="Only users with this role.")] = None,
    is_active: Annotated[bool | None, Query(description="Only users who may log in, or only those who may not.")] = None,
) -> ListEnvelope[ManagedUser]:
    """All users, newest first."""
    after = paging.after(tuple[datetime, UUID])
    async with context.sessions.begin() as session:
        rows = await list_users(session, UserFilter(search, role, is_active), after=after, limit=paging.fetch)
    page, next_cursor = paging.cut(rows, lambda user: (user.created_at, user.id))
    return listed([_describe(user) for user in page], next_cursor, "Users")


@router.get("/users/{user_id}")
async def read_user(user_id: UUID, _: AdminDep, context: ContextDep) -> Envelope[ManagedUser]:
    """One user."""
    async with context.sessions.begin() as session:
        return success(_describe(await get_user(session, user_id)), "User")


@router.patch("/users/{user_id}")
async def change_a_user(
    user_id: UUID, body: UserChange, request: Request, admin: AdminDep, context: ContextDep
) -> Envelope[ManagedUser]:
    """Change a user's role, deactivate or activate them. Refused when no active administrator would be left."""
    async with context.sessions.begin() as session:
        user, changes = await change_user(session, user_id, role=body.role, is_active=body.is_active)
        if changes:
            await record_audit(
                session,
                actor_id=admin.id,
                owner_id=user_id,
                action="user.changed",
                subject=f"user:{user_id}",
                details=changes,
                address=client_address(request),
            )
    return success(_describe(user), "User changed" if changes else "Nothing to change")


@router.post("/users/{user_id}/password-reset", status_code=201)
async def create_password_reset(user_id: UUID, request: Request, admin: AdminDep, context: ContextDep) -> Envelope[ResetLink]:
    """Create a one-time link with which a user sets a new password within 24 hours; older links stop working."""
    async with context.sessions.begin() as session:
        await get_user(session, user_id, lock=True)
        token, expires_at = await create_reset(session, user_id, created_by=admin.id, now=context.clock())
        await record_audit(
            session,
            actor_id=admin.id,
            owner_id=user_id,
            action="user.password_reset_created",
            subject=f"user:{user_id}",
            address=client_address(request),
        )
    # Behind the #, where it reaches no log of a server or proxy.
    link = f"{request.base_url}password-reset#token={token}"
    return success(ResetLink(link=link, token=token, expires_at=expires_at), "Link created; it is not shown again")


@router.get("/audit-log")
async def read_audit_log(
    _: AdminDep,
    context: ContextDep,
    paging: PagingDep,
    actor_id: Annotated[UUID | None, Query(description="Only what this user did.")] = None,
    owner_id: Annotated[UUID | None, Query(description="Only what was done to this user's rows.")] = None,
    action: Annotated[str | None, Query(max_length=100, description="Only this action.")] = None,
) -> ListEnvelope[AuditLine]:
    """The audit log, newest first."""
    after = paging.after(tuple[int])
    async with context.sessions.begin() as session:
        wanted = AuditFilter(actor_id, owner_id, action)
        rows = await list_audit(session, wanted, before=after[0] if after else None, limit=paging.fetch)
    page, next_cursor = paging.cut(rows, lambda row: (row.entry.id,))
    return listed([_line(row) for row in page], next_cursor, "Audit log")


def _line(action: AuditedAction) -> AuditLine:
    entry = action.entry
    return AuditLine(
        id=entry.id,
        created_at=entry.created_at,
        action=entry.action,
        subject=entry.subject,
        actor_id=entry.actor_id,
        actor_email=action.actor_email,
        owner_id=entry.owner_id,
        owner_email=action.owner_email,
        address=entry.address,
        details=entry.details,
    )
