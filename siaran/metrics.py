"""Prometheus metrics of this process, and those that are read from the database."""

from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, start_http_server
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import CampaignCount, Device, Host, Lane
from siaran.settings import Settings

log = structlog.get_logger()

REQUESTS = Counter("siaran_http_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "siaran_http_request_seconds",
    "Time from a request to the end of its answer.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
MESSAGES = Counter("siaran_messages", "Messages that this process recorded, by ledger state.", ["status"])

PROCESS = Gauge("siaran_process_info", "Which process this is; always 1.", ["role", "host"])

PORTS = 200
"""How many ports a process tries: as many of ours may run side by side on one machine."""

COUNTED = ("pending", "sent", "delivered", "read", "failed", "unknown", "suppressed", "cancelled")

# A lane that is to send but does not: what it would have done last, or next, lies so far back.
_LATENESS = text("""
    SELECT coalesce(extract(epoch FROM max(now() - greatest(last_activity_at, next_send_at, updated_at))), 0)::float
    FROM lanes WHERE state = 'running' AND paused_at IS NULL
""")

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request; `route` is the path template, so that ids never become label values."""
    known = method if method in METHODS else "OTHER"
    REQUESTS.labels(known, route, str(status)).inc()
    REQUEST_SECONDS.labels(known, route).observe(seconds)


def count_messages(status: str, count: int = 1) -> None:
    """Count messages that reached a ledger state in this process."""
    MESSAGES.labels(status).inc(count)


def serve_metrics(settings: Settings, role: str, host: str = "") -> WSGIServer | None:
    """Serve this process' metrics from a thread where `SIARAN_METRICS_BIND` asks for it; returns the server.

    It takes the first free port from the one in the setting on. A process that finds none goes on without.
    """
    PROCESS.labels(role, host).set(1)
    if not settings.metrics_bind:
        return None
    address, _, first = settings.metrics_bind.rpartition(":")
    for port in range(int(first), int(first) + PORTS):
        try:
            server, _ = start_http_server(port, addr=address)
        except (OSError, OverflowError):  # taken, or no port
            continue
        log.info("metrics_served", address=address, port=port)
        return server
    log.warning("metrics_not_served", bind=settings.metrics_bind)
    return None


def render_process_metrics() -> bytes:
    """The metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


async def render_database_metrics(session: AsyncSession) -> bytes:
    """Devices, lanes, hosts and messages, of all users together; the same from whichever process answers."""
    registry = CollectorRegistry()
    devices = Gauge("siaran_devices", "Devices by status.", ["status"], registry=registry)
    lanes = Gauge("siaran_lanes", "Device lanes by state.", ["state"], registry=registry)
    by_status = select(Device.status, func.count()).where(Device.deleted_at.is_(None)).group_by(Device.status)
    for status, count in await session.execute(by_status):
        devices.labels(status).set(count)
    for state, count in await session.execute(select(Lane.state, func.count()).group_by(Lane.state)):
        lanes.labels(state).set(count)
    lateness = Gauge("siaran_lane_lateness_seconds", "How long the latest running lane has not sent.", registry=registry)
    lateness.set(max(0.0, (await session.execute(_LATENESS)).scalar_one()))
    hosts = Gauge("siaran_hosts", "Device hosts with a live lease.", registry=registry)
    is_live = Host.ended_at.is_(None) & (Host.expires_at > func.now())
    hosts.set((await session.execute(select(func.count()).select_from(Host).where(is_live))).scalar_one())
    messages = Gauge("siaran_campaign_messages", "Messages of campaigns by ledger state.", ["status"], registry=registry)
    sums = [func.coalesce(func.sum(getattr(CampaignCount, status)), 0) for status in COUNTED]
    for name, count in zip(COUNTED, (await session.execute(select(*sums))).one(), strict=True):
        messages.labels(name).set(count)
    return generate_latest(registry)
