"""Answers that are CSV files, written while they are sent."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

CSV = "text/csv; charset=utf-8"

CSV_ANSWER: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}
"""`responses` of an operation that answers with a CSV file."""


def attach_csv(name: str, content: AsyncIterator[bytes]) -> StreamingResponse:
    """A CSV file that a browser saves under `name`; whatever may be refused has to be checked before."""
    return StreamingResponse(content, media_type=CSV, headers={"Content-Disposition": f'attachment; filename="{name}"'})
