"""Users: registering, finding and changing them, and the first administrator."""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from uuid import UUID
from zoneinfo import available_timezones

import structlog
from email_validator import EmailNotValidError, validate_email
from phonenumbers import SUPPORTED_REGIONS
from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.audit import record_audit
from siaran.credentials import end_sessions
from siaran.db import SessionMaker
from siaran.errors import Conflict, FieldError, Invalid, NotFound
from siaran.models import Role, User
from siaran.passwords import DEFAULT_PASSWORD, MAX_LENGTH, MIN_LENGTH, PASSWORDS
from siaran.settings import Settings

log = structlog.get_logger()

DEFAULT_EMAIL = "admin@whatsapp.com"
MAX_NAME = 200
ADMINISTRATOR_LOCK = 7_201_001
"""Held while the first administrator is created, so that processes that start together create one."""


def normalise_email(email: str, field: str = "email") -> str:
    """An address as it is stored and compared, in lower case; raises `Invalid`. Whether it receives mail is not checked."""
    try:
        return validate_email(email.strip(), check_deliverability=False).normalized.lower()
    except EmailNotValidError as error:
        raise Invalid([FieldError(field, f"is not an email address: {error}")]) from None


def comparable_email(email: str) -> str:
    """An address that someone logs in with, as it would be stored; one that is none is nobody's."""
    try:
        return normalise_email(email)
    except Invalid:
        return email.strip().lower()


def check_full_name(full_name: str, field: str = "fullname") -> str:
    """A person's name without blanks around it; raises `Invalid` for an empty or endless one."""
    name = full_name.strip()
    if not name or len(name) > MAX_NAME:
        raise Invalid.field(field, f"must have 1 to {MAX_NAME} characters")
    return name


@lru_cache(1)
def _timezones() -> frozenset[str]:
    return frozenset(available_timezones())


def check_timezone(name: str, field: str = "timezone") -> str:
    """The name of a time zone such as `Asia/Kuala_Lumpur`; raises `Invalid` for one that does not exist."""
    if name not in _timezones():
        raise Invalid.field(field, "is not a time zone; give one such as Asia/Kuala_Lumpur")
    return name


def check_country(country: str, field: str = "country") -> str:
    """A country's two letters in capitals; raises `Invalid` for one without telephone numbers."""
    code = country.strip().upper()
    if code not in SUPPORTED_REGIONS:
        raise Invalid.field(field, "is not a country's two-letter code, such as MY")
    return code


async def create_user(
    session: AsyncSession,
    *,
    email: str,
    full_name: str,
    password_hash: str,
    timezone: str,
    country: str,
    now: datetime,
    role: Role = Role.USER,
) -> User:
    """A new user; raises `Conflict` when the email, already normalised, is taken."""
    values = {
        "email": email,
        "full_name": full_name,
        "password_hash": password_hash,
        "role": role,
        "timezone": timezone,
        "country": country,
        "password_changed_at": now,
        "created_at": now,
        "updated_at": now,
    }
    user: User | None = await session.scalar(insert(User).values(values).on_conflict_do_nothing().returning(User))
    if user is None:
        raise Conflict("this email is already registered")
    return user


async def find_user_by_email(session: AsyncSession, email: str) -> User | None:
    """The user with a normalised email, active or not."""
    return await session.scalar(select(User).where(func.lower(User.email) == email))


async def get_user(session: AsyncSession, user_id: UUID, *, lock: bool = False) -> User:
    """A user by id; raises `NotFound`."""
    user = await session.get(User, user_id, with_for_update=lock)
    if user is None:
        raise NotFound("no such user")
    return user


async def set_password(
    session: AsyncSession, user_id: UUID, password_hash: str, now: datetime, *, keep_session: UUID | None = None
) -> int:
    """Change a user's password and end their sessions but one; returns how many ended."""
    user = await get_user(session, user_id, lock=True)
    user.password_hash = password_hash
    user.password_changed_at = now
    return await end_sessions(session, user_id, but=keep_session)


async def _active_administrators(session: AsyncSession) -> Sequence[User]:
    return (await session.scalars(select(User).where(User.role == Role.ADMIN, User.is_active).order_by(User.created_at))).all()


def first_administrator(settings: Settings) -> tuple[str, str]:
    """Email and password of the first administrator: `APP_BASIC_AUTH`, else the published default.

    Raises `ValueError` when `APP_BASIC_AUTH` cannot be used.
    """
    if settings.basic_auth is None:
        return DEFAULT_EMAIL, DEFAULT_PASSWORD
    name, colon, password = settings.basic_auth.get_secret_value().partition(":")
    if not (name and colon):
        raise ValueError("APP_BASIC_AUTH must be user:password")
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise ValueError(f"APP_BASIC_AUTH: the password must have {MIN_LENGTH} to {MAX_LENGTH} characters")
    try:
        return normalise_email(name if "@" in name else f"{name}@whatsapp.com"), password
    except Invalid as error:
        raise ValueError(f"APP_BASIC_AUTH: the user {error.errors[0].reason}") from None


async def find_default_administrator(session: AsyncSession) -> User | None:
    """The administrator who still has the published password, if there is one."""
    for user in await _active_administrators(session):
        if await PASSWORDS.verify(DEFAULT_PASSWORD, user.password_hash):
            return user
    return None


async def ensure_administrator(sessions: SessionMaker, settings: Settings, now: datetime) -> None:
    """Create the first administrator where there is none.

    One that was created with the published password takes over what `APP_BASIC_AUTH` says once that is set, so that setting
    it is always a way out of the published password.
    """
    async with sessions.begin() as session:
        await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": ADMINISTRATOR_LOCK})
        if not await _active_administrators(session):
            await _create_administrator(session, settings, now)
        elif settings.basic_auth is not None:
            await _replace_default_administrator(session, settings, now)


async def _create_administrator(session: AsyncSession, settings: Settings, now: datetime) -> None:
    email, password = first_administrator(settings)
    user = await create_user(
        session,
        email=email,
        full_name="Administrator",
        password_hash=await PASSWORDS.hash(password),
        timezone=settings.default_timezone,
        country=settings.default_country,
        now=now,
        role=Role.ADMIN,
    )
    await record_audit(session, actor_id=None, owner_id=user.id, action="user.created", subject=f"user:{user.id}")
    log.info("administrator_created", default_password=password == DEFAULT_PASSWORD)


async def _replace_default_administrator(session: AsyncSession, settings: Settings, now: datetime) -> None:
    email, password = first_administrator(settings)
    user = await find_default_administrator(session)
    if user is None or password == DEFAULT_PASSWORD:
        return
    taken = await find_user_by_email(session, email)
    if taken is None:
        user.email = email
    await set_password(session, user.id, await PASSWORDS.hash(password), now)
    await record_audit(session, actor_id=None, owner_id=user.id, action="user.password_replaced", subject=f"user:{user.id}")
    log.info("default_password_replaced")
