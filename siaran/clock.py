"""The one place where a process asks what time it is, so that a test can drive every decision."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]
"""Returns the present instant as an aware UTC `datetime`."""


def system_clock() -> datetime:
    """The machine's clock, aware, in UTC."""
    return datetime.now(UTC)
