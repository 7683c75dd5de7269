"""Who sends a request: the cookie, API key or token it shows, and what that allows."""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from api.context import ContextDep
from siaran.credentials import Login, Scope, find_login
from siaran.errors import Forbidden, Unauthenticated
from siaran.models import Role

SESSION_COOKIE = "session_token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class AuthenticatedUser:
    """The user of a request; `scopes` is `None` for a login, which may do all that its user may."""

    id: UUID
    email: str
    full_name: str
    role: Role
    timezone: str
    country: str
    scopes: frozenset[str] | None
    session_id: UUID | None = None

    @classmethod
    def of(cls, login: Login) -> "AuthenticatedUser":
        """The user that a login belongs to."""
        user = login.user
        return cls(
            id=user.id,
            email=user.email,
            full_name=user.full_name,
            role=Role(user.role),
            timezone=user.timezone,
            country=user.country,
            scopes=login.scopes,
            session_id=login.session_id,
        )

    @property
    def is_admin(self) -> bool:
        """Whether the request may use what is for administrators."""
        return self.role is Role.ADMIN and self.may(Scope.ADMIN)

    def may(self, scope: Scope) -> bool:
        """Whether the request's API key, if it came with one, has a scope."""
        return self.scopes is None or scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the request has a scope."""
        if not self.may(scope):
            raise Forbidden(f"this API key lacks the scope '{scope}'")


@dataclass(frozen=True, slots=True)
class ShownToken:
    """The token that a request shows, and whether it is the browser's cookie."""

    token: str
    is_cookie: bool


def shown_token(request: Request) -> ShownToken | None:
    """The token of a request; one that was put into a header on purpose wins over the cookie."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return ShownToken(bearer.strip(), is_cookie=False)
    if header := request.headers.get("x-auth-token", "").strip():
        return ShownToken(header, is_cookie=False)
    if cookie := request.cookies.get(SESSION_COOKIE):
        return ShownToken(cookie, is_cookie=True)
    return None


async def find_user(request: Request, context: ContextDep) -> AuthenticatedUser | None:
    """The user of a request, or `None` for one that shows no valid token."""
    shown = shown_token(request)
    if shown is None:
        return None
    async with context.sessions.begin() as session:
        login = await find_login(session, shown.token, context.clock())
    if login is None:
        return None
    if login.touched and shown.is_cookie:
        request.state.renewed_session = shown.token  # `api.middleware` sends the cookie again with its new lifetime
    return AuthenticatedUser.of(login)


OptionalUserDep = Annotated[AuthenticatedUser | None, Depends(find_user)]


async def require_login(user: OptionalUserDep) -> AuthenticatedUser:
    """The user of a request, whatever its scopes; raises `Unauthenticated` for nobody."""
    if user is None:
        raise Unauthenticated
    return user


async def require_user(request: Request, user: Annotated[AuthenticatedUser, Depends(require_login)]) -> AuthenticatedUser:
    """The user of a request; an API key needs the scope `read` to read and `write` to change anything."""
    user.require(Scope.READ if request.method in SAFE_METHODS else Scope.WRITE)
    return user


async def require_sender(user: Annotated[AuthenticatedUser, Depends(require_login)]) -> AuthenticatedUser:
    """The user of a request that sends a message at once: an API key needs the scope `send`."""
    user.require(Scope.SEND)
    return user


async def require_session(user: Annotated[AuthenticatedUser, Depends(require_login)]) -> AuthenticatedUser:
    """The user of a request that came with a login, not an API key: for passwords, sessions and keys."""
    if user.scopes is not None:
        raise Forbidden("an API key may not do this; log in")
    return user


async def require_admin(user: Annotated[AuthenticatedUser, Depends(require_user)]) -> AuthenticatedUser:
    """The administrator of a request; an API key needs the scope `admin` besides."""
    if user.role is not Role.ADMIN:
        raise Forbidden("only administrators may do this")
    user.require(Scope.ADMIN)
    return user


UserDep = Annotated[AuthenticatedUser, Depends(require_user)]
SenderDep = Annotated[AuthenticatedUser, Depends(require_sender)]
SessionUserDep = Annotated[AuthenticatedUser, Depends(require_session)]
AdminDep = Annotated[AuthenticatedUser, Depends(require_admin)]


def client_address(request: Request) -> str:
    """The address that a request came from, as far as the server knows."""
    return request.client.host if request.client else ""
