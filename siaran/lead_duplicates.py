"""The phones that an import has met, each with the line it was first on, in 12 to 24 bytes instead of a dictionary's 110."""

import secrets
from array import array

_WORD = 2**64 - 1


class SeenPhones:
    """A hash table over two plain arrays: 25 MB for a million phones.

    Duplicates are found in memory, not in SQL, because a dry run must find them too and writes nothing.
    """

    def __init__(self) -> None:
        self._bits = 12
        self._count = 0
        # Odd and unknown to whoever wrote the file, so that nobody can choose phones that all collide.
        self._multiplier = secrets.randbits(64) | 1
        self._phones = array("Q", bytes(8 << self._bits))
        self._lines = array("I", bytes(4 << self._bits))

    def __len__(self) -> int:
        return self._count

    def first_line(self, phone: str, line: int) -> int:
        """The line on which the phone (digits) was met first: `line` itself if it is new, and then remembered."""
        if self._count * 2 >= len(self._phones):
            self._grow()
        number = int(phone)
        slot = self._slot(number)
        if self._phones[slot] == number:
            return self._lines[slot]
        self._phones[slot] = number
        self._lines[slot] = line
        self._count += 1
        return line

    def _slot(self, number: int) -> int:
        """Where the number is, or the free slot where it belongs; 0 marks a free one, as no phone is 0."""
        phones = self._phones
        last = len(phones) - 1
        slot = (number * self._multiplier & _WORD) >> (64 - self._bits)
        while phones[slot] not in (0, number):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        phones, lines = self._phones, self._lines
        self._bits += 1
        self._phones = array("Q", bytes(8 << self._bits))
        self._lines = array("I", bytes(4 << self._bits))
        for number, line in zip(phones, lines, strict=True):
            if number:
                slot = self._slot(number)
                self._phones[slot] = number
                self._lines[slot] = line
