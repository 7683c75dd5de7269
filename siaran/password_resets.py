"""One-time links with which a user sets a new password; an administrator creates them."""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.accounts import get_user, set_password
from siaran.credentials import hash_token
from siaran.errors import Invalid
from siaran.models import PasswordReset
from siaran.tenancy import delete_owned

LIFETIME = timedelta(hours=24)


async def create_reset(session: AsyncSession, user_id: UUID, *, created_by: UUID, now: datetime) -> tuple[str, datetime]:
    """A link's token, of which only the hash is kept, and when it expires. Older links of the user no longer work."""
    await session.execute(delete_owned(PasswordReset, user_id).where(PasswordReset.used_at.is_(None)))
    token, expires_at = secrets.token_urlsafe(32), now + LIFETIME
    session.add(
        PasswordReset(
            user_id=user_id, token_hash=hash_token(token), created_by=created_by, created_at=now, expires_at=expires_at
        )
    )
    return token, expires_at


async def redeem_reset(session: AsyncSession, token: str, password_hash: str, now: datetime) -> int:
    """Set the password of the user whose link it is and end their sessions; returns how many ended.

    Raises `Invalid` for a token that is unknown, expired or used, and for a deactivated user.
    """
    # Whose link it is, is only known by its token: the one query on this table that names no owner.
    mark_used = (
        update(PasswordReset)
        .where(PasswordReset.token_hash == hash_token(token), PasswordReset.used_at.is_(None), PasswordReset.expires_at > now)
        .values(used_at=now)
        .returning(PasswordReset.user_id)
    )
    user_id = await session.scalar(mark_used)
    if user_id is None or not (await get_user(session, user_id, lock=True)).is_active:
        raise Invalid.field("token", "is unknown, expired or was used before; ask for a new link")
    return await set_password(session, user_id, password_hash, now)
