"""Prometheus metrics of this process, and those that are read from the database."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from siaran.models import Device, Lane

REQUESTS = Counter("siaran_http_requests", "Requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "siaran_http_request_seconds",
    "Time from a request to the end of its answer.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
MESSAGES = Counter("siaran_messages", "Messages that this process recorded, by ledger state.", ["status"])

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request; `route` is the path template, so that ids never become label values."""
    known = method if method in METHODS else "OTHER"
    REQUESTS.labels(known, route, str(status)).inc()
    REQUEST_SECONDS.labels(known, route).observe(seconds)


def count_messages(status: str, count: int = 1) -> None:
    """Count messages that reached a ledger state in this process."""
    MESSAGES.labels(status).inc(count)


def render_process_metrics() -> bytes:
    """The metrics of this process in Prometheus' text format."""
    return generate_latest(REGISTRY)


async def render_database_metrics(session: AsyncSession) -> bytes:
    """Devices by status and lanes by state, of all users together; the same from whichever process answers."""
    registry = CollectorRegistry()
    devices = Gauge("siaran_devices", "Devices by status.", ["status"], registry=registry)
    lanes = Gauge("siaran_lanes", "Device lanes by state.", ["state"], registry=registry)
    by_status = select(Device.status, func.count()).where(Device.deleted_at.is_(None)).group_by(Device.status)
    for status, count in await session.execute(by_status):
        devices.labels(status).set(count)
    for state, count in await session.execute(select(Lane.state, func.count()).group_by(Lane.state)):
        lanes.labels(state).set(count)
    return generate_latest(registry)
