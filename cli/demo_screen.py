"""What the demo shows while it runs: every device's progress and what has happened, or plain lines where nobody watches."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from cli.watching import progress_view

LINE_SECONDS = 5.0
"""How often progress is told where there is no live display."""


class Screen:
    """Events, each with the second it happened in, above a live display of the campaign."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._live: Live | None = None
        self._told = 0.0

    @property
    def seconds(self) -> float:
        """How long the demo has been running."""
        return time.monotonic() - self._started

    def say(self, sentence: str, style: str = "") -> None:
        """Tell what happened."""
        self.console.print(Text.assemble((f"{self.seconds:5.1f} s  ", "dim"), (sentence, style)))

    def show(self, what: RenderableType) -> None:
        """Print something that is larger than a sentence."""
        self.console.print(what)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Keep a live display at the foot of the terminal meanwhile."""
        if not self.console.is_terminal:
            yield
            return
        with Live(Text("Waiting for the campaign …"), console=self.console, auto_refresh=False, transient=True) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def update(self, campaign: dict[str, Any], report: dict[str, Any]) -> None:
        """Show how far the campaign is."""
        if self._live is not None:
            self._live.update(Group(Text(), progress_view(campaign, report)), refresh=True)
        elif (counts := campaign["counts"])["total"] and self.seconds - self._told > LINE_SECONDS:
            self._told = self.seconds
            done = counts["total"] - counts["pending"]
            self.say(f"{done:,} of {counts['total']:,} messages are done, {report['activeDevices']} devices online")
