"""What surrounds every request: its id, the log line, security headers, and the answer to an error nobody foresaw."""

import re
from time import perf_counter
from uuid import uuid4

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import SESSION_COOKIE
from api.cookies import session_cookie
from api.problems import internal_error_response, problem_response
from siaran.metrics import observe_request
from siaran.temporal_ui import UI_PATH

log = structlog.get_logger()

REQUEST_ID_HEADER = "X-Request-ID"
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{8,64}")

QUIET_ROUTES = frozenset({"/health", "/health/ready", "/metrics", f"{UI_PATH}/{{path:path}}"})
"""Asked every few seconds by machines: logged only when verbose."""

SECURITY_HEADERS = {
    # Styles: Swagger UI and charts set them from scripts. Images: QR codes and previews come as data or blobs.
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
        "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Set where an endpoint has not set its own."""


class RequestMiddleware:
    """The outermost layer, inside which everything happens that a request causes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, whatever becomes of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id = _request_id(request)
        status = 0
        started = perf_counter()

        async def send_dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                _dress(request, MutableHeaders(scope=message), request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_dressed)
            except Exception:
                log.exception("request_failed", method=request.method, route=route_of(scope))
                if status:  # the answer has begun: only breaking it off tells the caller
                    raise
                await internal_error_response(request_id)(scope, receive, send_dressed)
            finally:
                _note(request, scope, status, perf_counter() - started)


class BodyLimitMiddleware:
    """Starlette's limit on the size of a body, which routes may widen with `max_body_size`, answered as a problem."""

    def __init__(self, app: ASGIApp, max_body_size: int) -> None:
        self._limited = RequestBodyLimitMiddleware(app, max_body_size)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request unless its body is too large."""
        replaced = False

        async def send_problem(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start":
                plain = Headers(scope=message).get("content-type", "").startswith("text/plain")
                replaced = message["status"] == 413 and plain
            if not replaced:
                await send(message)
            elif message["type"] == "http.response.start":
                answer = problem_response(
                    413, "TOO_LARGE", "The request is too large", "the body is larger than this path takes"
                )
                await answer(scope, receive, send)

        await self._limited(scope, receive, send_problem)


def route_of(scope: Scope) -> str:
    """The template of the path, or the folder of files, that a request met; never the path: a phone number may stand in it."""
    return getattr(scope.get("route"), "path", "") or scope.get("root_path") or "unmatched"


def _request_id(request: Request) -> str:
    given = request.headers.get(REQUEST_ID_HEADER, "")
    return given if REQUEST_ID.fullmatch(given) else uuid4().hex


def _dress(request: Request, headers: MutableHeaders, request_id: str) -> None:
    headers[REQUEST_ID_HEADER] = request_id
    headers.setdefault("Cache-Control", "no-cache" if "etag" in headers else "no-store")
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    token = getattr(request.state, "renewed_session", None)
    ours = any(value.startswith(f"{SESSION_COOKIE}=") for value in headers.getlist("set-cookie"))
    if token is not None and not ours:  # a log-in or log-out in this very answer has the last word
        headers.append("set-cookie", session_cookie(token, secure=request.url.scheme == "https"))


def _note(request: Request, scope: Scope, status: int, seconds: float) -> None:
    route = route_of(scope)
    observe_request(request.method, route, status or 499, seconds)
    note = log.debug if route in QUIET_ROUTES else log.info
    note("request", method=request.method, route=route, status=status or 499, milliseconds=round(seconds * 1000, 1))
