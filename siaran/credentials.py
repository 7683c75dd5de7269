"""What a request shows to say who sends it: session tokens and API keys."""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import ApiKey, User, UserSession
from siaran.tenancy import delete_owned, get_owned, select_owned, update_owned

SESSION_LIFETIME = timedelta(hours=24)
"""A session ends this long after its last request."""

TOUCH_EVERY = timedelta(minutes=1)
"""A session's or key's last use is written at most this often."""

KEY_MARK = "siaran_"
"""Every API key begins with it, so that scanners for leaked secrets can find them."""

PREFIX_LENGTH = len(KEY_MARK) + 6
MAX_USER_AGENT = 300


class Scope(StrEnum):
    """What an API key may do; a login may do all that its user may."""

    READ = "read"
    WRITE = "write"
    SEND = "send"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Login:
    """The user that a token belongs to; `scopes` is `None` for a session, `touched` says that its life was prolonged."""

    user: User
    session_id: UUID | None
    scopes: frozenset[str] | None
    touched: bool


def hash_token(token: str) -> bytes:
    """What is stored of a token: its SHA-256. Tokens are random, so no slow hash is needed."""
    return hashlib.sha256(token.encode()).digest()


async def find_login(session: AsyncSession, token: str, now: datetime) -> Login | None:
    """The login of a session token or API key, or `None` when it is unknown, ended, or its user deactivated."""
    return await (_find_key if token.startswith(KEY_MARK) else _find_session)(session, token, now)


async def _find_session(session: AsyncSession, token: str, now: datetime) -> Login | None:
    query = (
        select(UserSession, User)
        .join(User, User.id == UserSession.user_id)
        .where(UserSession.token_hash == hash_token(token), UserSession.expires_at > now, User.is_active)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    login, user = found
    touched = now - login.last_seen_at >= TOUCH_EVERY
    if touched:
        seen = {"last_seen_at": now, "expires_at": now + SESSION_LIFETIME}
        await session.execute(update_owned(UserSession, user.id).where(UserSession.id == login.id).values(seen))
    return Login(user, login.id, None, touched)


async def _find_key(session: AsyncSession, token: str, now: datetime) -> Login | None:
    query = (
        select(ApiKey, User)
        .join(User, User.id == ApiKey.user_id)
        .where(ApiKey.key_hash == hash_token(token), ApiKey.revoked_at.is_(None), User.is_active)
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    key, user = found
    touched = key.last_used_at is None or now - key.last_used_at >= TOUCH_EVERY
    if touched:
        await session.execute(update_owned(ApiKey, user.id).where(ApiKey.id == key.id).values(last_used_at=now))
    return Login(user, None, frozenset(key.scopes), touched)


async def open_session(session: AsyncSession, user_id: UUID, *, address: str, user_agent: str, now: datetime) -> str:
    """Log a user in and clear away their ended sessions; returns the token, of which only the hash is kept."""
    await session.execute(delete_owned(UserSession, user_id).where(UserSession.expires_at <= now))
    token = secrets.token_urlsafe(32)
    session.add(
        UserSession(
            user_id=user_id,
            token_hash=hash_token(token),
            address=address,
            user_agent=user_agent[:MAX_USER_AGENT],
            created_at=now,
            last_seen_at=now,
            expires_at=now + SESSION_LIFETIME,
        )
    )
    return token


async def list_sessions(session: AsyncSession, user_id: UUID, now: datetime) -> Sequence[UserSession]:
    """A user's open sessions, the one used last first."""
    query = select_owned(UserSession, user_id).where(UserSession.expires_at > now)
    return (await session.scalars(query.order_by(UserSession.last_seen_at.desc(), UserSession.id))).all()


async def end_session(session: AsyncSession, user_id: UUID, session_id: UUID) -> None:
    """End one session of a user; raises `NotFound` for any other."""
    await session.delete(await get_owned(session, UserSession, user_id, UserSession.id == session_id, lock=True))


async def end_sessions(session: AsyncSession, user_id: UUID, *, but: UUID | None = None) -> int:
    """End all sessions of a user except `but`; returns how many."""
    query = delete_owned(UserSession, user_id).returning(UserSession.id)
    if but is not None:
        query = query.where(UserSession.id != but)
    return len((await session.scalars(query)).all())


async def create_key(
    session: AsyncSession, user_id: UUID, *, name: str, scopes: Collection[Scope], now: datetime
) -> tuple[ApiKey, str]:
    """A new API key: its row, and the key itself, which is shown once and kept only as a hash."""
    token = KEY_MARK + secrets.token_urlsafe(32)
    key = ApiKey(
        user_id=user_id,
        name=name,
        prefix=token[:PREFIX_LENGTH],
        key_hash=hash_token(token),
        scopes=sorted(set(scopes)),
        created_at=now,
    )
    session.add(key)
    await session.flush()
    return key, token


async def list_keys(session: AsyncSession, user_id: UUID) -> Sequence[ApiKey]:
    """A user's API keys that were not revoked, newest first."""
    query = select_owned(ApiKey, user_id).where(ApiKey.revoked_at.is_(None))
    return (await session.scalars(query.order_by(ApiKey.created_at.desc(), ApiKey.id))).all()


async def revoke_key(session: AsyncSession, user_id: UUID, key_id: UUID, now: datetime) -> None:
    """End an API key at once; raises `NotFound` for someone else's and for one that was revoked before."""
    key = await get_owned(session, ApiKey, user_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None), lock=True)
    key.revoked_at = now
