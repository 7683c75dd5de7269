"""Niches: the tags of leads, always compared whole."""

import re

_BETWEEN_TAGS = re.compile(r"[,;\n\r\N{FULLWIDTH COMMA}\N{IDEOGRAPHIC COMMA}\N{FULLWIDTH SEMICOLON}]")


def parse_niches(text: str) -> list[str]:
    """The whole tags in a text such as `EXSTART, ITADRESS`: upper case, trimmed, each once, in the order written."""
    tags = (" ".join(part.split()).upper() for part in _BETWEEN_TAGS.split(text))
    return list(dict.fromkeys(tag for tag in tags if tag))
