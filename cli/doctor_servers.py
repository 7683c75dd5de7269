"""What `siaran doctor` asks the servers: whether they answer, how fast, and whether they are prepared."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from time import perf_counter

import httpx
from alembic.script import ScriptDirectory
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from cli.doctor_checks import Check, failed, ok, skipped, warning
from siaran.accounts import find_default_administrator
from siaran.db import alembic_config, open_database
from siaran.settings import Settings

PATIENCE_SECONDS = 5
SLOW_SECONDS = 0.25
SKEW = timedelta(seconds=2)

_LIVE_HOSTS = text("SELECT count(*) FROM hosts WHERE ended_at IS NULL AND expires_at > now()")

_UNHELD = text("""
    SELECT count(*) AS linked, count(*) FILTER (WHERE h.id IS NULL) AS unheld
    FROM user_devices d LEFT JOIN hosts h ON h.id = d.host_id AND h.ended_at IS NULL AND h.expires_at > now()
    WHERE d.jid IS NOT NULL AND d.is_active AND d.deleted_at IS NULL AND d.status NOT IN ('banned', 'logged_out')
""")


async def check_database(settings: Settings) -> list[Check]:
    """PostgreSQL: its answer, its schema, its clock, the first administrator and the device hosts."""
    if settings.database_url is None:
        return [skipped("PostgreSQL", "does not run", "start everything with `siaran up`, or set DB_URI")]
    async with open_database(settings, pool_size=1) as sessions, sessions() as session:
        try:
            await session.execute(text("SELECT 1"))  # connects, which is not what is timed
            seconds = await _timed(lambda: session.execute(text("SELECT 1")))
            checks = [
                _answered("PostgreSQL", seconds),
                await _check_clock(session),
                schema := await _check_schema(session, settings),
            ]
            if schema.verdict == "ok":
                checks += [await _check_password(session, settings), await _check_hosts(session)]
        except (SQLAlchemyError, OSError) as error:
            hint = "is it running, and is DB_URI right?"
            return [failed("PostgreSQL", f"does not answer: {type(error).__name__}", hint)]
    return checks


async def _check_schema(session: AsyncSession, settings: Settings) -> Check:
    newest = set(ScriptDirectory.from_config(alembic_config(settings.sqlalchemy_url)).get_heads())
    exists = (await session.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL"))).scalar_one()
    present = set((await session.execute(text("SELECT version_num FROM alembic_version"))).scalars()) if exists else set()
    if present != newest:
        shown = ", ".join(sorted(present)) or "empty"
        return failed("schema", f"is {shown}, the newest is {', '.join(sorted(newest))}", "run `siaran migrate`")
    return ok("schema", f"is the newest: {', '.join(sorted(present))}")


async def _check_clock(session: AsyncSession) -> Check:
    theirs: datetime = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    skew = abs(datetime.now(UTC) - theirs)
    detail = f"differs from PostgreSQL's by {skew.total_seconds():.2f} s"
    if skew > SKEW:
        return warning("clock", detail, "messages go out that much early or late: set both clocks by NTP")
    return ok("clock", detail)


async def _check_password(session: AsyncSession, settings: Settings) -> Check:
    user = await find_default_administrator(session)
    if user is None:
        return ok("administrator", "nobody has the published password")
    detail = f"{user.email} still has the published password"
    hint = "log in and change it, or set APP_BASIC_AUTH=user:password"
    if settings.bind in {"127.0.0.1", "::1", "localhost"}:
        return warning("administrator", detail, hint)
    return failed("administrator", detail, f"the API refuses to listen on {settings.bind}: {hint}")


async def _check_hosts(session: AsyncSession) -> Check:
    hosts = (await session.execute(_LIVE_HOSTS)).scalar_one()
    devices = (await session.execute(_UNHELD)).one()
    detail = f"{hosts} device hosts hold {devices.linked - devices.unheld} of {devices.linked} linked devices"
    if devices.unheld:
        return warning(
            "fleet", detail, "is the fleet running? A new device is taken within a second; see fleet.log and hosts.log"
        )
    return ok("fleet", detail)


async def check_redis(settings: Settings) -> Check:
    """Siaran's Redis."""
    if settings.redis_url is None:
        return skipped("Redis", "does not run", "start everything with `siaran up`, or set REDIS_URL")
    return await _ping("Redis", settings.redis_dsn, "REDIS_URL")


async def check_network(settings: Settings) -> Check:
    """The simulated network's own Valkey."""
    if settings.network_url is None:
        return skipped("simulated network", "does not run", "simulated devices need it: set SIARAN_NETWORK_URL")
    return await _ping("simulated network", settings.network_url.get_secret_value(), "SIARAN_NETWORK_URL")


async def _ping(name: str, url: str, variable: str) -> Check:
    try:
        async with Redis.from_url(url, socket_timeout=PATIENCE_SECONDS, socket_connect_timeout=PATIENCE_SECONDS) as client:
            await client.ping()
            return _answered(name, await _timed(client.ping))
    except (RedisError, OSError, ValueError) as error:
        return failed(name, f"does not answer: {type(error).__name__}", f"is it running, and is {variable} right?")


async def check_api(url: str, *, is_expected: bool) -> Check:
    """The API, where it should listen."""
    try:
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS, trust_env=False) as client:
            started = perf_counter()
            answer = await client.get(f"{url}/health/ready")
            seconds = perf_counter() - started
    except httpx.HTTPError as error:
        detail = f"does not answer at {url}: {type(error).__name__}"
        if is_expected:
            return failed("API", detail, "see api.log in the data folder's logs")
        return skipped("API", detail, "start everything with `siaran up`, or `siaran api` alone")
    if answer.status_code != 200:
        return failed("API", f"answers {answer.status_code} at {url}", "another part is away, see above")
    return _answered("API", seconds, url)


def _answered(name: str, seconds: float, where: str = "") -> Check:
    detail = f"answers in {seconds * 1000:.1f} ms" + (f" at {where}" if where else "")
    if seconds > SLOW_SECONDS:
        return warning(name, detail, "that is slow: is the machine busy, or the server far away?")
    return ok(name, detail)


async def _timed(call: Callable[[], Awaitable[object]]) -> float:
    started = perf_counter()
    await call()
    return perf_counter() - started
