"""What a user was promised would not be sent, and from when to when."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from siaran.clock import system_clock


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when something was sure to hold; without an end it still does."""

    since_at: datetime
    until_at: datetime | None = None

    def holds(self, at: datetime) -> bool:
        """Whether it was sure to hold at that instant."""
        return self.since_at < at and (self.until_at is None or at < self.until_at)


class Stops:
    """When nothing of a campaign, or nothing to a phone, was allowed to begin: as sure as the answers of the API are."""

    def __init__(self) -> None:
        self._open: dict[Any, datetime] = {}
        self.spans: defaultdict[Any, list[Span]] = defaultdict(list)

    def begin(self, key: Any) -> None:
        """The API has just said so."""
        self._open.setdefault(key, system_clock())

    def end(self, key: Any) -> None:
        """The API is about to be asked to lift it."""
        if (since_at := self._open.pop(key, None)) is not None:
            self.spans[key].append(Span(since_at, system_clock()))

    def close(self) -> Mapping[Any, Sequence[Span]]:
        """All of them, those that still hold included."""
        for key, since_at in self._open.items():
            self.spans[key].append(Span(since_at))
        self._open.clear()
        return self.spans
