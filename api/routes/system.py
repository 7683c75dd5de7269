"""Health, status and metrics."""

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.auth import OptionalUserDep, UserDep, client_address
from api.context import Context, ContextDep
from api.docs import PUBLIC
from api.envelope import Envelope, success
from api.health import Checks, Overall, State, check_parts, check_redis
from api.problems import problem_response
from siaran.errors import Forbidden
from siaran.metrics import render_database_metrics, render_process_metrics
from siaran.settings import Settings
from siaran.temporal_ui import EXECUTIONS_PATH
from siaran.version import VERSION

router = APIRouter(tags=["system"])

MANAGER_TYPE = "Temporal durable execution"


class Liveness(BaseModel):
    """That this process answers."""

    status: str = "healthy"


class Readiness(BaseModel):
    """Whether this process can do its work."""

    status: Overall
    checks: Checks


class Installation(BaseModel):
    """Where the parts are; for administrators."""

    server: str
    transport_os: str = Field(description="The name that linked devices show on the phone.")
    temporal_address: str | None
    temporal_namespace: str
    temporal_ui_url: str | None = Field(description="Where this API leads to the Temporal UI, if there is one.")


class SystemStatus(BaseModel):
    """The state of the system; administrators also see where its parts are."""

    status: Overall
    manager_type: str = MANAGER_TYPE
    version: str
    checks: Checks | None = None
    installation: Installation | None = None


class RedisSettings(BaseModel):
    """What the address of Redis looks like."""

    not_empty: bool
    no_template_vars: bool = Field(description="No `${…}` or `{{…}}` that nobody filled in.")
    not_localhost: bool = Field(description="The embedded server is on this machine and counts as healthy.")
    has_redis_scheme: bool


class RedisCheck(BaseModel):
    """Whether Redis answers; administrators also see its settings, without secrets."""

    status: str = Field(examples=["healthy"])
    manager_type: str = MANAGER_TYPE
    environment_vars: dict[str, str] | None = None
    validation_checks: RedisSettings | None = None
    final_redis_url: str | None = None
    is_redis_enabled: bool | None = None
    message: str | None = None


@router.get("/health", openapi_extra=PUBLIC)
async def read_health() -> Envelope[Liveness]:
    """Whether this process answers; asks nothing else."""
    return success(Liveness(), "Alive")


@router.get("/health/ready", response_model=Envelope[Readiness], openapi_extra=PUBLIC)
async def read_readiness(context: ContextDep) -> Response:
    """Whether this process can do its work: 503 while PostgreSQL is away; without Redis or Temporal it is degraded."""
    checks = await check_parts(context)
    readiness = Readiness(status=checks.overall, checks=checks)
    if checks.overall is Overall.UNHEALTHY:
        return problem_response(
            503,
            "UNAVAILABLE",
            "A part of the system does not answer at the moment",
            "PostgreSQL does not answer",
            extra={"results": readiness.model_dump(mode="json")},
        )
    return JSONResponse(success(readiness, f"Ready, {checks.overall}").model_dump(mode="json"))


@router.get("/api/system/status", response_model_exclude_none=True)
async def read_status(user: UserDep, context: ContextDep) -> Envelope[SystemStatus]:
    """The state of the system; administrators also see its parts and where they are."""
    checks = await check_parts(context)
    status = SystemStatus(status=checks.overall, version=VERSION)
    if user.is_admin:
        status.checks = checks
        status.installation = _installation(context.settings)
    return success(status, "System status")


def _installation(settings: Settings) -> Installation:
    return Installation(
        server=settings.server,
        transport_os=settings.app_os,
        temporal_address=settings.temporal_address,
        temporal_namespace=settings.temporal_namespace,
        temporal_ui_url=EXECUTIONS_PATH if settings.temporal_ui_url else None,
    )


@router.get("/api/system/redis-check", response_model_exclude_none=True)
async def read_redis_check(user: UserDep, context: ContextDep) -> Envelope[RedisCheck]:
    """Whether Redis answers. What sends is Temporal; Redis holds live counters and notices, and may be lost at any time."""
    answers = (await check_redis(context)).state is State.UP
    check = RedisCheck(status="healthy" if answers else "unhealthy")
    if user.is_admin:
        url = redacted_url(context.settings.redis_dsn)
        check.environment_vars = _redis_variables(context)
        check.validation_checks = _validate(context.settings.redis_dsn)
        check.final_redis_url = url
        check.is_redis_enabled = True
        check.message = "Redis answers" if answers else "Redis does not answer; sending goes on, live counters stand still"
    return success(check, "Redis check")


def redacted_url(url: str) -> str:
    """A URL with whatever may be a secret in it replaced."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "[not a URL]"
    _, at, host = parts.netloc.rpartition("@")
    return urlunsplit((parts.scheme, f"***@{host}" if at else host, parts.path, "***" if parts.query else "", ""))


def _redis_variables(context: Context) -> dict[str, str]:
    settings = context.settings
    return {
        "REDIS_URL": redacted_url(settings.redis_url.get_secret_value()) if settings.redis_url else "",
        "REDIS_PASSWORD": "***" if settings.redis_password else "",
    }


def _validate(url: str) -> RedisSettings:
    templates = ("${", "{{", "}}")
    try:
        parts = urlsplit(url)
        scheme, host = parts.scheme, parts.hostname or ""
    except ValueError:
        scheme, host = "", ""
    return RedisSettings(
        not_empty=bool(url.strip()),
        no_template_vars=not any(mark in url for mark in templates),
        not_localhost=host != "localhost" and not _is_loopback(host),
        has_redis_scheme=scheme in {"redis", "rediss", "unix"},
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}}, openapi_extra=PUBLIC)
async def read_metrics(request: Request, user: OptionalUserDep, context: ContextDep) -> Response:
    """Prometheus metrics; for this machine and for administrators."""
    # A proxy on this machine connects from loopback too, but says on whose behalf.
    forwarded = {"forwarded", "x-forwarded-for", "x-real-ip"} & set(request.headers)
    if not (_is_loopback(client_address(request)) and not forwarded) and not (user is not None and user.is_admin):
        raise Forbidden("metrics are for this machine and for administrators")
    metrics = render_process_metrics()
    try:
        async with context.sessions() as session:
            metrics += await render_database_metrics(session)
    except SQLAlchemyError:  # what this process itself knows is worth having while PostgreSQL is away
        pass
    return Response(metrics, media_type=CONTENT_TYPE_LATEST)
