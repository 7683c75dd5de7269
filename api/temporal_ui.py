"""The Temporal UI behind the API: what of a request and of an answer passes between it and a browser."""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from fastapi import Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api.auth import SESSION_COOKIE
from siaran.settings import Settings
from siaran.temporal_ui import UI_PATH

Headers = list[tuple[bytes, bytes]]

CONNECT_SECONDS = 5
ANSWER_SECONDS = 120
"""The UI waits for news of an execution in requests that stay open for twenty seconds and more."""
CONNECTIONS = 100

HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
        b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
NOT_PASSED_ON = HOP_BY_HOP | {
    # Whoever holds the UI must not learn what opens the API.
    *(b"authorization", b"x-auth-token"),
    # Said anew for the connection to the UI, or of no meaning to it: that the site is the same has been checked here.
    *(b"host", b"content-length", b"accept-encoding", b"cookie", b"origin", b"referer", b"forwarded"),
}
NOT_PASSED_BACK = HOP_BY_HOP | {b"date", b"server"}

ASSETS = f"{UI_PATH}/_app/immutable/".encode()
"""Files whose names change with their contents."""

RENDERED = f"{UI_PATH}/render".encode()
"""Summaries and details as pages of their own, which the UI shows in frames; 2.54 has them under its path twice."""

POLICY = (
    "default-src 'self'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'self'"
)
"""For documents: the UI leaves out its own policy as soon as it runs under a path."""
INLINE_SCRIPT = re.compile(rb"<script[^>]*>(.*?)</script>", re.DOTALL)


def open_temporal_ui() -> httpx.AsyncClient:
    """A client that keeps connections to the UI, and no cookies: those belong to the browsers."""
    return httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=CONNECTIONS),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        trust_env=False,
    )


async def ask_temporal_ui(client: httpx.AsyncClient, settings: Settings, request: Request) -> httpx.Response:
    """Send a browser's request on and return the head of the answer, which the caller closes; raises `httpx.HTTPError`."""
    target: bytes = request.scope["raw_path"]
    if target == RENDERED:
        target = UI_PATH.encode() + target
    if query := request.scope["query_string"]:
        target += b"?" + query
    passed_on = httpx.Request(
        request.method,
        httpx.URL(settings.temporal_ui_url or "").copy_with(raw_path=target),
        headers=_passed_on(request),
        content=await request.body() or None,
    )
    return await client.send(passed_on, stream=True)


async def relay(answer: httpx.Response, script: str) -> Response:
    """The UI's answer for the browser; a document of the UI gets `script` to run first, and a policy."""
    headers = _without(answer.headers.raw, NOT_PASSED_BACK)
    if answer.headers.get("content-type", "").startswith("text/html") and "content-security-policy" not in answer.headers:
        return await _document(answer, headers, script)
    if answer.url.raw_path.startswith(ASSETS) and answer.status_code == 200 and "cache-control" not in answer.headers:
        headers.append((b"cache-control", b"private, max-age=31536000, immutable"))
    return Relay(answer, headers)


class Relay(StreamingResponse):
    """An answer of the UI, passed on as it comes in, byte by byte as the UI encoded it."""

    def __init__(self, answer: httpx.Response, headers: Headers) -> None:
        super().__init__(answer.aiter_raw(), status_code=answer.status_code)
        self.raw_headers = headers
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer; the connection to the UI is given back also when the browser leaves in the middle."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.aclose()


async def _document(answer: httpx.Response, headers: Headers, script: str) -> Response:
    try:
        page = await answer.aread()
    finally:
        await answer.aclose()
    page = page.replace(b"<head>", f"<head><script>{script}</script>".encode(), 1)
    hashes = (b64encode(sha256(code).digest()).decode() for code in INLINE_SCRIPT.findall(page) if code)
    policy = POLICY.format(hashes=" ".join(f"'sha256-{value}'" for value in hashes))
    response = Response(page, status_code=answer.status_code, headers={"Content-Security-Policy": policy})
    response.raw_headers += _without(headers, {b"content-length", b"content-encoding"})
    return response


def _passed_on(request: Request) -> Headers:
    headers = _without(request.scope["headers"], NOT_PASSED_ON | _named_by_connection(request))
    headers = [(name, value) for name, value in headers if not name.startswith(b"x-forwarded-")]
    # The one encoding that both a UI's server and `aread` know.
    headers.append((b"accept-encoding", b"gzip" if "gzip" in request.headers.get("accept-encoding", "") else b"identity"))
    cookies = [part.strip() for part in request.headers.get("cookie", "").split(";")]
    kept = [cookie for cookie in cookies if cookie and cookie.partition("=")[0] != SESSION_COOKIE]
    if kept:
        headers.append((b"cookie", "; ".join(kept).encode("latin-1")))
    return headers


def _named_by_connection(request: Request) -> frozenset[bytes]:
    names = request.headers.get("connection", "").lower().split(",")
    return frozenset(name.strip().encode("latin-1") for name in names)


def _without(headers: Iterable[tuple[bytes, bytes]], names: Iterable[bytes]) -> Headers:
    dropped = frozenset(names)
    return [(name.lower(), value) for name, value in headers if name.lower() not in dropped]
