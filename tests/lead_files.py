"""CSV files of leads for tests of imports, of which it is known what becomes of every row."""

from dataclasses import dataclass

FIRST_PHONE = 60_120_000_000


@dataclass(frozen=True, slots=True)
class ManyLeads:
    """A file of `rows` rows, every 50th without a phone and every 20th with the phone of one that came long before."""

    rows: int

    @property
    def content(self) -> str:
        """The file."""
        return "\n".join(["name,phone,niche,notes", *(self._line(number) for number in range(self.rows)), ""])

    def _line(self, number: int) -> str:
        return f'Lead {number},{self._phone(number)},"EXSTART,N{number % 7}","a note, of {number}"'

    def _phone(self, number: int) -> str:
        if number % 50 == 0:
            return ""
        return str(FIRST_PHONE + (number // 2 // 50 * 50 + 7 if number % 20 == 19 else number))

    @property
    def phones(self) -> set[str]:
        """Whom it makes leads."""
        return {phone for number in range(self.rows) if (phone := self._phone(number))}

    @property
    def counts(self) -> dict[str, int]:
        """What becomes of its rows where nobody is a lead yet."""
        invalid = len(range(0, self.rows, 50))
        new = len(self.phones)
        return {"new": new, "duplicate": self.rows - invalid - new, "invalid": invalid}
