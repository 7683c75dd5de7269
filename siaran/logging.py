"""Structured logs, as JSON lines or for a person's terminal, without phone numbers, message texts or secrets."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

HIDDEN = "[hidden]"

HIDDEN_KEYS = frozenset(
    {
        "phone", "phones", "recipient_phone", "contact_phone", "jid", "chat", "text", "body", "content", "caption", "name",
        "full_name", "email", "password", "password_hash", "secret", "token", "key", "api_key", "authorization", "cookie",
    }
)  # fmt: skip
"""Names whose values never belong into a log, whatever they hold."""

HIDDEN_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    # What PostgreSQL quotes of a row, and pydantic of an input.
    (re.compile(r"DETAIL:.*?(?=\n(?:CONTEXT|HINT|STATEMENT):|\n\[SQL|\Z)", re.DOTALL), f"DETAIL: {HIDDEN}"),
    (re.compile(r"\[parameters: .*?\](?=\n|\Z)", re.DOTALL), f"[parameters: {HIDDEN}]"),
    (re.compile(r"input_value=.*?, input_type="), f"input_value={HIDDEN}, input_type="),
    # user:password@ of a URL.
    (re.compile(r"(?<=://)[^/\s@]*@"), f"{HIDDEN}@"),
    # Phone numbers: digits in one run, or written with a plus or a leading zero and separators.
    (re.compile(r"(?<![\w.-])\+?\d{9,15}(?![\w.-]*-)(?!\w)"), HIDDEN),
    (re.compile(r"\+\d[\d ().-]{7,}\d"), HIDDEN),
    (re.compile(r"(?<![\w.:-])0\d{1,2}[ -]\d{3,4}[ -]?\d{3,4}(?![\w:-])"), HIDDEN),
)

QUIET_LOGGERS = ("httpx", "httpcore", "sqlalchemy.engine", "asyncio", "uvicorn.access")


def hide(value: Any) -> Any:
    """The value with everything hidden that does not belong into a log."""
    if isinstance(value, str):
        for pattern, replacement in HIDDEN_PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {name: HIDDEN if str(name).lower() in HIDDEN_KEYS else hide(item) for name, item in value.items()}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        return [hide(item) for item in value]
    return value if isinstance(value, bool | int | float | None) else hide(str(value))


def _hide_in_event(_: Any, __: str, event: EventDict) -> MutableMapping[str, Any]:
    hidden: MutableMapping[str, Any] = hide(event)
    return hidden


def configure_logging(*, debug: bool = False, as_json: bool | None = None) -> None:
    """Send everything that this process logs, libraries included, to its standard error.

    JSON lines unless a person's terminal is there, or as `as_json` says; `debug` adds the verbose lines.
    """
    if as_json is None:
        as_json = not sys.stderr.isatty()
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=_finish(as_json), foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _finish(as_json: bool) -> list[Processor]:
    # Exceptions become text before anything is hidden, because their messages quote what was sent.
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    renderer: Processor = structlog.processors.JSONRenderer() if as_json else plain
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        _hide_in_event,
        renderer,
    ]
