"""The cookie that holds a browser's session."""

from fastapi import Response

from api.auth import SESSION_COOKIE
from siaran.credentials import SESSION_LIFETIME


def session_cookie(token: str, *, secure: bool) -> str:
    """The `Set-Cookie` header that logs a browser in for the lifetime of a session; `secure` when served over TLS."""
    response = Response()
    response.set_cookie(
        SESSION_COOKIE,
        token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        httponly=True,
        samesite="lax",
        secure=secure,
    )
    return response.headers["set-cookie"]


def ended_cookie(*, secure: bool) -> str:
    """The `Set-Cookie` header that makes a browser forget its session."""
    response = Response()
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="lax", secure=secure)
    return response.headers["set-cookie"]
