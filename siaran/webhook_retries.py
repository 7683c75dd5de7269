"""When a delivery is tried again, when an address as a whole is left alone, and when a delivery is given up."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from siaran.contracts import WebhookReach

MOST_TRIES = 12
"""With the delays between them: about a day."""

FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(hours=5)

GIVE_UP_AFTER = timedelta(hours=24)
"""How long deliveries wait for an address that takes none at all."""

DOWN_AFTER = 3
"""So many different deliveries that fail in a row say that it is the address that is down, not what is sent to it."""

FIRST_HOLD = timedelta(seconds=10)
LONGEST_HOLD = timedelta(minutes=10)

SHORTEST_RETRY_AFTER = timedelta(seconds=1)
LONGEST_RETRY_AFTER = timedelta(hours=1)

GONE = 410
BUSY = frozenset({429, 503})
"""Answers whose `Retry-After` is heeded."""

Draw = Callable[[], float]
"""Draws from [0, 1)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request: the status, or, where there was none, why. `text` is the beginning of the answer."""

    status_code: int | None
    error: str
    text: str
    took: timedelta
    retry_after: str = ""

    @property
    def is_success(self) -> bool:
        """Only 2xx is; a redirect is not followed, and says that nobody took the delivery."""
        return self.status_code is not None and 200 <= self.status_code < 300


def next_try(tries: int, now: datetime, draw: Draw, wait: timedelta | None = None) -> datetime | None:
    """When a delivery that has failed `tries` times is tried again, None when it is given up.

    The delays grow threefold, with a fifth more or less by chance; `wait` is what the address has asked for.
    """
    if tries >= MOST_TRIES:
        return None
    delay: timedelta = min(FIRST_DELAY * int(3 ** (tries - 1)), LONGEST_DELAY) * (0.8 + 0.4 * draw())
    return now + max(delay, wait or delay)


def is_down(reach: WebhookReach) -> bool:
    """Whether the address takes nothing, so that single deliveries find out when it is back."""
    return len(reach.failing) >= DOWN_AFTER


def after_failure(reach: WebhookReach, delivery_id: int, now: datetime, draw: Draw, wait: timedelta | None) -> WebhookReach:
    """How the address stands after a failed delivery: left alone for a while when it is down, or has asked for it."""
    failing = reach.failing if delivery_id in reach.failing else (*reach.failing, delivery_id)[:DOWN_AFTER]
    held_until_at = reach.held_until_at
    holds = reach.holds
    if wait is not None:
        held_until_at = max(now + wait, held_until_at or now)
    if len(failing) >= DOWN_AFTER and reach.held_until_at is None:  # those that were under way beside it say nothing more
        pause = min(FIRST_HOLD * 2 ** min(holds, 10), LONGEST_HOLD) * (0.8 + 0.4 * draw())
        held_until_at = max(now + pause, held_until_at or now)
        holds += 1
    return WebhookReach(failing, holds, held_until_at)


def asked_to_wait(answer: Answer, now: datetime) -> timedelta | None:
    """How long the address has asked to be left alone, within bounds; None when it has not."""
    if answer.status_code not in BUSY or not answer.retry_after:
        return None
    written = answer.retry_after.strip()
    if written.isascii() and written.isdigit():
        seconds = min(int(written[:9]), LONGEST_RETRY_AFTER.total_seconds())
        return max(timedelta(seconds=seconds), SHORTEST_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(written)
    except (ValueError, OverflowError):
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    return min(max(wait, SHORTEST_RETRY_AFTER), LONGEST_RETRY_AFTER)
