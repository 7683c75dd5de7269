"""Passwords and open log-ins."""

from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.auth import SessionUserDep, client_address
from api.context import ContextDep
from api.docs import PUBLIC
from api.envelope import Envelope, success
from api.throttle import PASSWORD_RESETS, count_try, login_attempt
from siaran.accounts import get_user, set_password
from siaran.credentials import end_session, end_sessions, list_sessions
from siaran.errors import Invalid
from siaran.password_resets import redeem_reset
from siaran.passwords import MAX_LENGTH, PASSWORDS, check_password

router = APIRouter(tags=["sessions"])

MAX_TOKEN = 200


class PasswordChange(BaseModel):
    """A new password, and the present one as proof."""

    current_password: str = Field(max_length=MAX_LENGTH)
    new_password: str = Field(description="8 to 256 characters.")


class PasswordRedemption(BaseModel):
    """A new password, and the token of the link that an administrator created."""

    token: str = Field(max_length=MAX_TOKEN)
    new_password: str = Field(description="8 to 256 characters.")


class Ended(BaseModel):
    """How many log-ins ended."""

    ended_sessions: int


class OpenSession(BaseModel):
    """One open login."""

    id: UUID
    address: str = Field(description="Where the login came from.")
    user_agent: str = Field(description="The program that logged in, as it calls itself.")
    created_at: datetime
    last_seen_at: datetime = Field(description="Last use, at most a minute behind.")
    expires_at: datetime
    is_current: bool = Field(description="Whether it is the login of this request.")


@router.post("/api/me/password")
async def change_password(body: PasswordChange, request: Request, user: SessionUserDep, context: ContextDep) -> Envelope[Ended]:
    """Change one's password. All other log-ins end; API keys go on, revoke those you do not trust."""
    check_password(body.new_password, "new_password")
    async with login_attempt(context.redis, user.email, client_address(request)):
        async with context.sessions.begin() as session:
            stored = (await get_user(session, user.id)).password_hash
        if not await PASSWORDS.verify(body.current_password, stored):
            raise Invalid.field("current_password", "is not your password")
    password_hash = await PASSWORDS.hash(body.new_password)
    async with context.sessions.begin() as session:
        ended = await set_password(session, user.id, password_hash, context.clock(), keep_session=user.session_id)
    return success(Ended(ended_sessions=ended), "Password changed")


@router.post("/api/password-reset", openapi_extra=PUBLIC)
async def reset_password(body: PasswordRedemption, request: Request, context: ContextDep) -> Envelope[Ended]:
    """Set a new password with a one-time link that an administrator created. All log-ins end."""
    check_password(body.new_password, "new_password")
    await count_try(context.redis, PASSWORD_RESETS, client_address(request))
    password_hash = await PASSWORDS.hash(body.new_password)
    async with context.sessions.begin() as session:
        ended = await redeem_reset(session, body.token, password_hash, context.clock())
    return success(Ended(ended_sessions=ended), "Password changed; log in with it")


@router.get("/api/me/sessions")
async def read_sessions(user: SessionUserDep, context: ContextDep) -> Envelope[list[OpenSession]]:
    """One's open log-ins, the one used last first."""
    async with context.sessions.begin() as session:
        rows = await list_sessions(session, user.id, context.clock())
    return success(
        [
            OpenSession(
                id=row.id,
                address=row.address,
                user_agent=row.user_agent,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
                expires_at=row.expires_at,
                is_current=row.id == user.session_id,
            )
            for row in rows
        ],
        "Open sessions",
    )


@router.delete("/api/me/sessions/{session_id}")
async def revoke_session(session_id: UUID, user: SessionUserDep, context: ContextDep) -> Envelope[Ended]:
    """End one of one's log-ins."""
    async with context.sessions.begin() as session:
        await end_session(session, user.id, session_id)
    return success(Ended(ended_sessions=1), "Session ended")


@router.delete("/api/me/sessions")
async def revoke_other_sessions(user: SessionUserDep, context: ContextDep) -> Envelope[Ended]:
    """End all of one's log-ins but this one."""
    async with context.sessions.begin() as session:
        ended = await end_sessions(session, user.id, but=user.session_id)
    return success(Ended(ended_sessions=ended), "Other sessions ended")
