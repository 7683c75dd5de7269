"""Half characters: JSON can write a lone surrogate, which no store and no answer can hold, so no request may bring one."""

import re
from collections.abc import Iterator

from fastapi import Request
from fastapi.routing import APIRoute

from siaran.errors import FieldError, Invalid

_SURROGATE = re.compile("[\ud800-\udfff]")
_PERHAPS = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\0")
"""What every body with a lone surrogate holds, escaped, raw or in UTF-16; so do those with an escaped emoji."""

REASON = "holds half a character (a lone surrogate)"


async def refuse_half_characters(request: Request) -> None:
    """A dependency of every route: raises `Invalid` that names the fields of a JSON body whose texts are broken.

    Pydantic lets a plain `str` pass as it is, and refuses only those whose length or form it looks at.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is None or "json" not in request.headers.get("content-type", ""):
        return
    if _PERHAPS.search(await request.body()) is None:
        return
    try:
        sent = await request.json()
    except ValueError:  # refused by whoever reads it
        return
    errors = [FieldError(field, REASON) for field in _broken_fields(sent)]
    if errors:
        raise Invalid(errors)


def _broken_fields(sent: object) -> Iterator[str]:
    """Dotted paths of the texts that hold a lone surrogate; of a broken name, that of the object it is in."""
    left: list[tuple[str, object]] = [("", sent)]
    while left:
        path, value = left.pop()
        match value:
            case str() if _SURROGATE.search(value):
                yield path or "body"
            case list():
                left += [(_joined(path, str(place)), item) for place, item in reversed(list(enumerate(value)))]
            case dict():
                if any(_SURROGATE.search(name) for name in value):
                    yield path or "body"
                left += [(_joined(path, name), item) for name, item in reversed(value.items()) if not _SURROGATE.search(name)]
            case _:
                continue


def _joined(path: str, part: str) -> str:
    return f"{path}.{part}" if path else part
