"""Errors as `application/problem+json` (RFC 9457): one table says which error becomes which status and type."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from redis.exceptions import RedisError
from sqlalchemy import exc
from starlette.exceptions import HTTPException
from temporalio.service import RPCError

from siaran.errors import (
    Conflict,
    FieldError,
    Forbidden,
    Invalid,
    NotFound,
    SiaranError,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
)

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STATUS_BY_ERROR: dict[type[SiaranError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    Conflict: HTTPStatus.CONFLICT,
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    SiaranError: HTTPStatus.BAD_REQUEST,
}
"""The status of each error; a subclass has that of its nearest parent."""

CODE_BY_STATUS: dict[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_ERROR",
    500: "INTERNAL_SERVER_ERROR",
}

RETRY_AFTER_OUTAGE_SECONDS = 2


class ProblemField(BaseModel):
    """One field of the input that was refused."""

    field: str = Field(description="Dotted path of the field, such as `steps.2.day`.")
    reason: str = Field(description="Why it was refused.")


class Problem(BaseModel):
    """The body of every error."""

    type: str = Field(description="The kind of problem, as a URN.", examples=["urn:siaran:problem:not-found"])
    title: str = Field(description="The kind of problem in words; the same for all of its type.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What went wrong this time.")
    errors: list[ProblemField] = Field(default_factory=list, description="The fields that were refused, if any.")
    code: str = Field(description="The kind of problem in capitals.", examples=["NOT_FOUND"])
    message: str = Field(description="The same as `detail`, for callers of the original.")


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """The answer for a problem; `extra` adds members of its own, as RFC 9457 allows."""
    problem = Problem(
        type=f"urn:siaran:problem:{code.lower().replace('_', '-')}",
        title=title,
        status=status,
        detail=detail,
        errors=[ProblemField(field=error.field, reason=error.reason) for error in errors],
        code=code,
        message=detail,
    )
    body = problem.model_dump() | dict(extra or {})
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def error_response(error: SiaranError) -> JSONResponse:
    """The answer for one of Siaran's own errors."""
    status = next(STATUS_BY_ERROR[kind] for kind in type(error).__mro__ if kind in STATUS_BY_ERROR)
    headers: dict[str, str] = {}
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooManyRequests):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_OUTAGE_SECONDS)
    errors = error.errors if isinstance(error, Invalid) else ()
    return problem_response(status, error.code, error.title, error.detail, errors=errors, headers=headers)


def internal_error_response(request_id: str) -> JSONResponse:
    """The answer for an error nobody foresaw: no internals, only the id under which the log has them."""
    detail = f"an unexpected error happened; the log has it under the request id {request_id}"
    return problem_response(500, "INTERNAL_SERVER_ERROR", "Something went wrong", detail, extra={"request_id": request_id})


def field_path(location: Sequence[int | str]) -> str:
    """Pydantic's location of an error as a dotted path, without the part of the request that it lies in."""
    path = location[1:] if location and location[0] in {"body", "query", "path", "header", "cookie"} else location
    return ".".join(str(part) for part in path) or str(location[0] if location else "body")


def field_errors(error: RequestValidationError) -> list[FieldError]:
    """FastAPI's validation errors as ours; what was sent is not repeated, it may be a secret."""
    return [_field_error(item) for item in error.errors()]


def _field_error(item: Mapping[str, Any]) -> FieldError:
    if item["type"] == "json_invalid":
        return FieldError("body", "is not valid JSON")
    return FieldError(field_path(item["loc"]), str(item["msg"]).removeprefix("Value error, "))


async def _answer_siaran_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SiaranError)  # noqa: S101 -- registered for this class alone
    return error_response(error)


async def _answer_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for this class alone
    return error_response(Invalid(field_errors(error)))


async def _answer_http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for this class alone
    title = HTTPStatus(error.status_code).phrase
    code = CODE_BY_STATUS.get(error.status_code, title.upper().replace(" ", "_"))
    return problem_response(error.status_code, code, title, error.detail or title, headers=error.headers)


async def _answer_refused_value(_: Request, error: Exception) -> JSONResponse:
    # A NUL in a text, a number beyond 64 bits: valid JSON that no column can hold.
    log.warning("database_refused_value", error=type(error).__name__)
    return error_response(Invalid((), "the input holds a value that cannot be stored"))


async def _answer_outage(_: Request, error: Exception) -> JSONResponse:
    log.warning("part_unavailable", error=type(error).__name__)
    return error_response(Unavailable("a part of the system does not answer at the moment; try again shortly"))


def install_problems(app: FastAPI) -> None:
    """Answer every foreseen error of an application as a problem; `api.middleware` answers the unforeseen."""
    app.add_exception_handler(SiaranError, _answer_siaran_error)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    app.add_exception_handler(exc.DataError, _answer_refused_value)
    for outage in (exc.OperationalError, exc.InterfaceError, exc.TimeoutError, RedisError, RPCError):
        app.add_exception_handler(outage, _answer_outage)
