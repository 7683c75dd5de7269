"""The client's word tables, read from the installed library: they are part of the protocol's version, so none are kept here.

Go keeps a text as an address and a length, and a list as an address, a length and a capacity, all of eight bytes. The tables
are found in the library's memory by the known beginning of each.
"""

import ctypes
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.whatsapp_server.binary import Tokens

SINGLE_WORDS = 236
DOUBLE_WORDS = 256
WORD = 8
FIRST_OF_SINGLE = ("xmlstreamstart", "xmlstreamend")
"""The second and third word of the first table; its first word is empty."""

FIRST_OF_DOUBLE = "read-self"


@dataclass(frozen=True, slots=True)
class Segment:
    """A readable stretch of the library in this process's memory."""

    start: int
    end: int

    def holds(self, address: int, length: int) -> bool:
        return self.start <= address and address + length <= self.end


def library_segments() -> list[Segment]:
    """Where the client's library lies in memory; empty if it is not loaded."""
    segments = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, access, *_, path = line.split(maxsplit=5) if line.count(" ") > 5 else ["", "", ""]
        if "r" in access and Path(path).name.startswith("neonize-"):
            start, _, end = addresses.partition("-")
            segments.append(Segment(int(start, 16), int(end, 16)))
    return segments


class _Memory:
    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments

    def read(self, address: int, length: int) -> bytes | None:
        """The bytes there; None if that is outside of the library."""
        inside = any(segment.holds(address, length) for segment in self.segments)
        return ctypes.string_at(address, length) if inside else None

    def find(self, pattern: bytes) -> Iterator[int]:
        """Every address at which the pattern begins."""
        for segment in self.segments:
            data = ctypes.string_at(segment.start, segment.end - segment.start)
            offset = data.find(pattern)
            while offset >= 0:
                yield segment.start + offset
                offset = data.find(pattern, offset + 1)

    def text(self, address: int) -> str | None:
        """The Go string whose header lies at an address."""
        header = self.read(address, 2 * WORD)
        if header is None:
            return None
        start, length = struct.unpack("<QQ", header)
        data = self.read(start, length) if 0 < length < 256 else b"" if length == 0 else None
        return None if data is None else data.decode("latin-1")

    def words(self, address: int, count: int) -> list[str]:
        return [self.text(address + index * 2 * WORD) or "" for index in range(count)]


def _find_single(memory: _Memory) -> list[str]:
    first, second = FIRST_OF_SINGLE
    for address in memory.find(struct.pack("<Q", len(first))):
        table = address - 3 * WORD
        if memory.text(table + 2 * WORD) == first and memory.text(table + 4 * WORD) == second:
            return memory.words(table, SINGLE_WORDS)
    raise LookupError("the client's library holds no table of single-byte words; has its version changed?")


def _find_double(memory: _Memory) -> list[list[str]]:
    for address in memory.find(struct.pack("<QQ", DOUBLE_WORDS, DOUBLE_WORDS)):
        lists = memory.read(address - WORD, 4 * 3 * WORD)
        numbers = struct.unpack("<12Q", lists) if lists else (0,) * 12
        if set(numbers[1::3] + numbers[2::3]) == {DOUBLE_WORDS} and memory.text(numbers[0]) == FIRST_OF_DOUBLE:
            return [memory.words(start, DOUBLE_WORDS) for start in numbers[::3]]
    raise LookupError("the client's library holds no dictionaries; has its version changed?")


@cache
def read_tokens() -> Tokens:
    """Load the library into this process and read its tables; raises `LookupError` if they are not where they were."""
    import neonize._binder  # noqa: F401, PLC0415  # loads the library, which only this function needs

    memory = _Memory(library_segments())
    return Tokens(_find_single(memory), _find_double(memory))
