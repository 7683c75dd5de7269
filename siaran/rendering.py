"""Message templates: fields of the recipient (`{{name|friend}}`) and spintax (`{Hi|Hello}`).

A template is parsed once and kept; rendering one for a recipient walks the parts. What a recipient's fields contain is never
read as template, and a brace that belongs to no template stays as it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from siaran.errors import Invalid

FIELDS = ("name", "phone", "niche")
"""What a template may say of its recipient."""

MAX_DEPTH = 50
"""How deep choices may be nested."""

_PIECE = re.compile(r"\{\{(?P<field>\s*[^\s{}|][^{}|]*(?:\|[^{}]*)?)\}\}|[{}|]")
"""A field with its fallback, or a single brace or bar."""


@dataclass(frozen=True, slots=True)
class _Field:
    """The recipient's `name`, or `fallback` where that is empty; `source` is how it was written."""

    name: str
    fallback: str
    source: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """One of several texts; `position` is the choice's own number in its template."""

    position: int
    options: tuple["_Parts", ...]


_Part = str | _Field | _Choice
_Parts = tuple[_Part, ...]


def _pieces(text: str) -> list[str | _Field]:
    """The template cut into fields, single braces and bars, and the texts between."""
    found: list[str | _Field] = []
    at = 0
    for match in _PIECE.finditer(text):
        if match.start() > at:
            found.append(text[at : match.start()])
        at = match.end()
        name, _, fallback = (match["field"] or "").partition("|")
        found.append(_Field(name.strip().lower(), fallback.strip(), match[0]) if match["field"] else match[0])
    if at < len(text):
        found.append(text[at:])
    return found


def _choice_marks(pieces: list[str | _Field]) -> set[int]:
    """Where the braces and bars stand that form choices: pairs of braces with a bar of their own between them."""
    marks: set[int] = set()
    open_braces: list[list[int]] = []
    for index, piece in enumerate(pieces):
        if piece == "{":
            open_braces.append([index])
        elif piece == "|" and open_braces:
            open_braces[-1].append(index)
        elif piece == "}" and open_braces:
            group = open_braces.pop()
            if len(group) > 1:
                marks.update(group, [index])
    return marks


def _without_depths(pieces: list[str | _Field], marks: set[int]) -> set[int]:
    """The marks without those of choices nested more than `MAX_DEPTH` deep, whose braces and bars then are text."""
    kept: set[int] = set()
    depth = 0
    for index in sorted(marks):
        depth += pieces[index] == "{"
        if depth <= MAX_DEPTH:
            kept.add(index)
        depth -= pieces[index] == "}"
    return kept


@lru_cache(maxsize=1024)
def _parse(text: str) -> _Parts:
    """The parts of any text at all: this runs at the claim, where an error would block a lane."""
    pieces = _pieces(text)
    marks = _without_depths(pieces, _choice_marks(pieces))
    parts: list[_Part] = []
    groups: list[list[list[_Part]]] = []
    choices = 0
    for index, piece in enumerate(pieces):
        if index not in marks:
            parts.append(piece)
            continue
        if piece == "{":
            groups.append([parts])
        else:
            groups[-1].append(parts)
        parts = []
        if piece == "}":
            outer, *options = groups.pop()
            outer.append(_Choice(choices, tuple(tuple(option) for option in options)))
            parts = outer
            choices += 1
    return tuple(parts)


def _nests_too_deep(text: str) -> bool:
    pieces = _pieces(text)
    marks = _choice_marks(pieces)
    return marks != _without_depths(pieces, marks)


def _fields(parts: _Parts) -> list[_Field]:
    found: list[_Field] = []
    for part in parts:
        if isinstance(part, _Field):
            found.append(part)
        elif isinstance(part, _Choice):
            for option in part.options:
                found.extend(_fields(option))
    return found


def check_template(text: str, field: str = "message") -> None:
    """Raise `Invalid` on `field` where a template asks for something no recipient has, or nests too deep."""
    if _nests_too_deep(text):
        raise Invalid.field(field, f"nests choices more than {MAX_DEPTH} deep")
    for asked in _fields(_parse(text)):
        if asked.name not in FIELDS:
            known = ", ".join(f"{{{{{name}}}}}" for name in FIELDS)
            raise Invalid.field(field, f"there is no field {asked.source}; the fields are {known}")


def _pick(seed: int, position: int, options: int) -> int:
    """A number below `options` that depends on seed and position alone (the finaliser of splitmix64)."""
    mixed = (seed + (position + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (mixed ^ (mixed >> 31)) % options


def _write(parts: _Parts, values: Mapping[str, str], seed: int, out: list[str]) -> None:
    for part in parts:
        if isinstance(part, str):
            out.append(part)
        elif isinstance(part, _Field):
            out.append(values.get(part.name, part.source) or part.fallback)
        else:
            _write(part.options[_pick(seed, part.position, len(part.options))], values, seed, out)


def render(text: str, *, name: str, phone: str, niche: str, seed: int) -> str:
    """The template's text for one recipient; the same seed picks the same words, in every process and release.

    Raises nothing, whatever the template is: what `check_template` would refuse stands in the text as it was written.
    """
    out: list[str] = []
    _write(_parse(text), {"name": name.strip(), "phone": phone, "niche": niche.strip()}, seed, out)
    return "".join(out)
