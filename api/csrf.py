"""Defence against requests that another site makes a browser send."""

from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import SAFE_METHODS, SESSION_COOKIE, OptionalUserDep
from api.context import ContextDep
from api.problems import error_response
from siaran.credentials import Scope as KeyScope
from siaran.errors import Forbidden

DEFAULT_PORTS = {"http": 80, "https": 443}
REFUSAL = "this request came from another site"


def is_cross_site(headers: Headers, scheme: str, allowed_origins: Collection[str]) -> bool:
    """Whether a browser says that another site caused the request; one that says nothing is a script.

    Browsers send `Sec-Fetch-Site` over TLS and to localhost, and `Origin` with all that is not a plain GET. `scheme` is that
    of the connection as the server sees it; behind a proxy that ends TLS it may be `http` for a page under `https`.
    """
    origin = headers.get("origin")
    if origin is not None and origin in allowed_origins:
        return False
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    return origin is not None and not _is_own(origin, headers.get("host", ""), scheme)


def _is_own(origin: str, host: str, scheme: str) -> bool:
    try:
        theirs, ours = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS[theirs.scheme]
        their_port, our_port = theirs.port or default, ours.port or default
    except (KeyError, ValueError):  # `null`, an unknown scheme, a port that is no number
        return False
    if theirs.hostname is None or (scheme, theirs.scheme) == ("https", "http"):
        return False
    return (theirs.hostname, their_port) == (ours.hostname, our_port)


class CsrfMiddleware:
    """Refuses requests from other sites that would change something with the browser's cookie, whatever route they go to.

    Requests without a cookie are checked too, because a foreign site could log a browser in as someone else; only those that
    carry a token in a header pass, which no foreign page can add.
    """

    def __init__(self, app: ASGIApp, allowed_origins: Collection[str] = ()) -> None:
        self._app = app
        self._allowed = frozenset(allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request of the same site or of a script; answer 403 to others."""
        if scope["type"] == "http" and self._refuses(Request(scope)):
            await error_response(Forbidden(REFUSAL))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refuses(self, request: Request) -> bool:
        if request.method in SAFE_METHODS:
            return False
        shows_token = "authorization" in request.headers or "x-auth-token" in request.headers
        if shows_token and SESSION_COOKIE not in request.cookies:
            return False
        return is_cross_site(request.headers, request.url.scheme, self._allowed)


async def refuse_cross_site(request: Request, context: ContextDep, user: OptionalUserDep) -> None:
    """Guards a GET that changes something: refuses other sites, and API keys that may not write.

    Plain links over unencrypted HTTP carry neither `Sec-Fetch-Site` nor `Origin`; there the `Referer` decides, if sent.
    """
    headers, scheme, allowed = request.headers, request.url.scheme, context.settings.allowed_origins
    if is_cross_site(headers, scheme, allowed):
        raise Forbidden(REFUSAL)
    referer = headers.get("referer")
    if referer and "sec-fetch-site" not in headers and not _is_own(referer, headers.get("host", ""), scheme):
        raise Forbidden(REFUSAL)
    if user is not None:
        user.require(KeyScope.WRITE)
