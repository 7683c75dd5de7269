"""Registering, logging in and out, and what a user may change of their own account."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import AliasChoices, BaseModel, Field

from api.auth import AuthenticatedUser, UserDep, client_address, shown_token
from api.context import Context, ContextDep
from api.cookies import ended_cookie, session_cookie
from api.csrf import refuse_cross_site
from api.docs import PUBLIC
from api.envelope import Envelope, success
from api.throttle import REGISTRATIONS, count_try, login_attempt
from siaran.accounts import (
    check_country,
    check_full_name,
    check_timezone,
    comparable_email,
    create_user,
    find_user_by_email,
    get_user,
    normalise_email,
)
from siaran.credentials import end_session, find_login, open_session
from siaran.errors import Forbidden, NotFound, Unauthenticated
from siaran.lanes import wake_lanes
from siaran.ledger.counters import recount_days
from siaran.models import Role, User
from siaran.passwords import MAX_LENGTH, PASSWORDS, check_password
from siaran.user_settings import waiting_lanes

router = APIRouter(tags=["accounts"])

MAX_EMAIL = 320


class Credentials(BaseModel):
    """What a person types to log in."""

    email: str = Field(max_length=MAX_EMAIL, description="The email address; upper and lower case are the same.")
    password: str = Field(max_length=MAX_LENGTH, description="The password.")


class Registration(Credentials):
    """What a person types to register."""

    full_name: str = Field(
        validation_alias=AliasChoices("fullname", "fullName", "full_name"), description="The person's name, as shown to them."
    )


class AccountName(BaseModel):
    """The user of a login."""

    id: UUID
    email: str
    full_name: str = Field(serialization_alias="fullName")


class LoggedIn(BaseModel):
    """A login; the token is also in the cookie `session_token`."""

    status: str = "success"
    message: str
    token: str = Field(description="For `Authorization: Bearer` or `X-Auth-Token`.")
    user: AccountName


class LoggedOut(BaseModel):
    """The end of a login."""

    status: str = "success"
    message: str = "Logged out"


class Account(BaseModel):
    """A user as they see themselves."""

    id: UUID
    email: str
    full_name: str = Field(serialization_alias="fullName")
    role: Role
    timezone: str = Field(description="Time zone in which dates and times are meant and shown.")
    country: str = Field(description="Country of phone numbers given without a country code.")
    created_at: datetime
    password_changed_at: datetime


class AccountChange(BaseModel):
    """What to change; what is left out stays."""

    full_name: str | None = Field(
        None, validation_alias=AliasChoices("fullname", "fullName", "full_name"), description="The person's name."
    )
    timezone: str | None = Field(None, description="A name of the IANA time zone database.", examples=["Asia/Kuala_Lumpur"])
    country: str | None = Field(None, description="Two letters, ISO 3166.", examples=["MY"])


async def log_in_user(context: Context, request: Request, response: Response, user: User, message: str) -> LoggedIn:
    """Open a session for a user who has proved who they are, and give it to the browser."""
    async with context.sessions.begin() as session:
        token = await open_session(
            session,
            user.id,
            address=client_address(request),
            user_agent=request.headers.get("user-agent", ""),
            now=context.clock(),
        )
    response.headers.append("set-cookie", session_cookie(token, secure=request.url.scheme == "https"))
    return LoggedIn(message=message, token=token, user=AccountName(id=user.id, email=user.email, full_name=user.full_name))


@router.post("/login", openapi_extra=PUBLIC)
@router.post("/api/login", openapi_extra=PUBLIC)
async def log_in(body: Credentials, request: Request, response: Response, context: ContextDep) -> LoggedIn:
    """Log in with email and password. Too many wrong passwords make an address wait."""
    email = comparable_email(body.email)
    async with login_attempt(context.redis, email, client_address(request)):
        async with context.sessions.begin() as session:
            user = await find_user_by_email(session, email)
        if not await PASSWORDS.verify(body.password, user.password_hash if user else None) or user is None:
            raise Unauthenticated("wrong email or password")
    if not user.is_active:
        raise Forbidden("this account is deactivated; ask an administrator")
    return await log_in_user(context, request, response, user, "Login successful")


@router.post("/register", status_code=201, openapi_extra=PUBLIC)
@router.post("/api/register", status_code=201, openapi_extra=PUBLIC)
async def register(body: Registration, request: Request, response: Response, context: ContextDep) -> LoggedIn:
    """Create an account and log in."""
    email, full_name = normalise_email(body.email), check_full_name(body.full_name)
    check_password(body.password)
    settings = context.settings
    await count_try(context.redis, REGISTRATIONS, client_address(request))
    password_hash = await PASSWORDS.hash(body.password)
    async with context.sessions.begin() as session:
        user = await create_user(
            session,
            email=email,
            full_name=full_name,
            password_hash=password_hash,
            timezone=settings.default_timezone,
            country=settings.default_country,
            now=context.clock(),
        )
    return await log_in_user(context, request, response, user, "Registration successful")


async def _end_shown_session(request: Request, context: Context) -> None:
    shown = shown_token(request)
    if shown is None:
        return
    async with context.sessions.begin() as session:
        login = await find_login(session, shown.token, context.clock())
        if login is not None and login.session_id is not None:
            with suppress(NotFound):  # ended by another request at the same moment
                await end_session(session, login.user.id, login.session_id)


@router.post("/logout", openapi_extra=PUBLIC)
@router.post("/api/logout", openapi_extra=PUBLIC)
async def log_out(request: Request, response: Response, context: ContextDep) -> LoggedOut:
    """End the session of this request, on the server too. Without one there is nothing to do."""
    await _end_shown_session(request, context)
    response.headers.append("set-cookie", ended_cookie(secure=request.url.scheme == "https"))
    return LoggedOut()


@router.get("/logout", response_model=LoggedOut, dependencies=[Depends(refuse_cross_site)], openapi_extra=PUBLIC)
async def log_out_by_link(request: Request, context: ContextDep) -> Response:
    """Log out by a link; a browser is led to the log-in page. Refused when another site sends the browser here."""
    await _end_shown_session(request, context)
    wants_page = "text/html" in request.headers.get("accept", "")
    response = RedirectResponse("/login", status_code=303) if wants_page else JSONResponse(LoggedOut().model_dump())
    response.headers.append("set-cookie", ended_cookie(secure=request.url.scheme == "https"))
    return response


async def _read_account(context: Context, user: AuthenticatedUser) -> Account:
    async with context.sessions.begin() as session:
        return Account.model_validate(await get_user(session, user.id), from_attributes=True)


@router.get("/api/me")
async def read_me(user: UserDep, context: ContextDep) -> Envelope[Account]:
    """The account of this request."""
    return success(await _read_account(context, user), "Your account")


@router.patch("/api/me")
async def change_me(body: AccountChange, user: UserDep, context: ContextDep) -> Envelope[Account]:
    """Change one's own name, time zone or country. In another time zone the days of the analytics are counted again."""
    waiting: Sequence[UUID] = ()
    async with context.sessions.begin() as session:
        row = await get_user(session, user.id, lock=True)
        if body.full_name is not None:
            row.full_name = check_full_name(body.full_name)
        if body.timezone is not None and body.timezone != row.timezone:
            row.timezone = check_timezone(body.timezone)
            await recount_days(session, user.id)
            waiting = await waiting_lanes(session, user.id)  # for the end of quiet hours, it may be
        if body.country is not None:
            row.country = check_country(body.country)
    await wake_lanes(context.sessions, context.temporal, context.redis, waiting)
    return success(await _read_account(context, user), "Account changed")
