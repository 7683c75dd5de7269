"""Writes `leads.csv`: made-up Malaysian leads as people really keep them, the same ones every time."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

PEOPLE = 980
SEED = 1957
TARGET = Path(__file__).with_name("leads.csv")
HEADER = ["name", "phone", "niche", "target_status", "additional_note", "device_id"]

MALAY_MEN = ["Ahmad", "Azlan", "Faizal", "Hafiz", "Khairul", "Mohd Syafiq", "Muhammad Danial", "Nazri", "Rosli", "Shahrul"]
MALAY_WOMEN = ["Aisyah", "Farah", "Hidayah", "Izzati", "Nor Azizah", "Nurul Huda", "Rohani", "Siti Hajar", "Syazwani", "Zaleha"]
MALAY_FATHERS = ["Abdullah", "Ismail", "Hassan", "Ibrahim", "Kamaruddin", "Othman", "Rahman", "Salleh", "Yusof", "Zainal"]
CHINESE = ["Tan", "Lim", "Lee", "Wong", "Ng", "Chan", "Ong", "Chong", "Goh", "Teoh", "Yap", "Khoo", "Cheah", "Liew"]
CHINESE_GIVEN = ["Wei Ming", "Mei Ling", "Jia Hui", "Kok Leong", "Siew Lan", "Chee Keong", "Xin Yi", "Zi Xuan", "Boon Hock"]
INDIAN_MEN = ["Arun", "Ganesan", "Suresh", "Ravi", "Saravanan", "Prakash"]
INDIAN_WOMEN = ["Kavitha", "Priya", "Shanti", "Meena", "Deepa", "Logeswary"]
INDIAN_FATHERS = ["Muniandy", "Subramaniam", "Krishnan", "Rajendran", "Maniam", "Perumal", "Ramasamy", "Selvam"]
OTHERS = ["Jelani anak Nyambong", "Dayang Nurfaizah", "Sylvester Gading", "Ann D'Cruz", "José Fernandez", "陈美玲"]

# Values with how often each comes, in parts of a hundred.
NICHES = {"EXSTART": 34, "ITADRESS": 15, "VITAC": 14, "EXSTART,ITADRESS": 11, "ASMART": 7, "VITAC,EXSTART": 5}
NICHES |= {"ITADRESS, VITAC": 5, "exstart": 4, "ASMART\nVITAC": 2, "": 3}
STATUSES = {"prospect": 58, "customer": 27, "": 11, "Prospect": 4}
NOTES = {
    "": 63,
    "beli 2 botol bulan lepas": 6,
    "asked for the price, will call back": 6,
    'said "nanti dulu", try after Raya': 6,
}
NOTES |= {"Booth Mid Valley, hall 2": 6, "repeat customer; COD only": 6, "alamat baru:\nNo. 12, Jalan Bukit 3\n43000 Kajang": 3}
NOTES |= {"老客户": 2, "-": 2}

# Nobody's numbers: these operator codes are in use, but not with a number that goes on with this digit.
RANGES = {("10", "1"): 20, ("13", "0"): 25, ("14", "1"): 15, ("17", "0"): 20, ("18", "0"): 10, ("11", "9"): 10}

# Ways of writing a number whose operator code and rest are given.
WRITINGS: dict[Callable[[str, str], str], int] = {
    lambda code, rest: f"+60 {code}-{rest[:3]} {rest[3:]}": 22,
    lambda code, rest: f"0{code}-{rest}": 20,
    lambda code, rest: f"60{code}{rest}": 20,
    lambda code, rest: f"0{code}{rest}": 10,
    lambda code, rest: f"+60{code}{rest}": 9,
    lambda code, rest: f"0{code} {rest[:3]} {rest[3:]}": 7,
    lambda code, rest: f"0060{code}{rest}": 4,
    lambda code, rest: f"(0{code}) {rest[:3]}.{rest[3:]}": 3,
    lambda code, rest: f"{code}{rest}": 3,
    lambda code, rest: f"'0{code}{rest}": 1,
    lambda code, rest: f" 60 {code} {rest} ": 1,
}

BROKEN = [
    ["Tan Ah Kow", "013-02345", "EXSTART", "prospect", "last digits missing", ""],
    ["Puan Rohani", "tiada nombor", "EXSTART", "prospect", "", ""],
    ["", "013-000 1857", "EXSTART", "prospect", "no name", ""],
    ["Encik Rosli", "", "ITADRESS", "customer", "ask for the number", ""],
    ["Kumar Perumal", "6.01E+10", "EXSTART", "prospect", "spoilt by a spreadsheet", ""],
    ["Lim Mei Ling", "013-000 1957", "VITAC", "lead", "unknown status", ""],
    ["Siti Hajar", "013-000 1963 / 017-000 1963", "EXSTART", "prospect", "two numbers in one cell", ""],
    ["Wong Kok Leong", "014-100 19633", "EXSTART,VITAC", "prospect", "a digit too many", ""],
]

Number = tuple[str, str]


def pick(choices: dict[str, int], dice: random.Random) -> str:
    """One of the values, as often as its weight says."""
    return dice.choices(list(choices), list(choices.values()))[0]


def make_name(dice: random.Random) -> str:
    """A Malay, Chinese, Indian or other name."""
    kind = dice.random()
    if kind < 0.26:
        return f"{dice.choice(MALAY_MEN)} bin {dice.choice(MALAY_FATHERS)}"
    if kind < 0.52:
        return f"{dice.choice(MALAY_WOMEN)} binti {dice.choice(MALAY_FATHERS)}"
    if kind < 0.8:
        return f"{dice.choice(CHINESE)} {dice.choice(CHINESE_GIVEN)}"
    if kind < 0.89:
        return f"{dice.choice(INDIAN_MEN)} a/l {dice.choice(INDIAN_FATHERS)}"
    if kind < 0.97:
        return f"{dice.choice(INDIAN_WOMEN)} a/p {dice.choice(INDIAN_FATHERS)}"
    return dice.choice(OTHERS)


def make_numbers(dice: random.Random) -> list[Number]:
    """Numbers that all differ, as operator code and rest."""
    ranges = dice.choices(list(RANGES), list(RANGES.values()), k=PEOPLE)
    rests = dice.sample(range(100_000, 1_000_000), PEOPLE)
    return [
        (code, f"{digit}{rest}{rest % 10 if code == '11' else ''}") for (code, digit), rest in zip(ranges, rests, strict=True)
    ]


def write_number(number: Number, dice: random.Random) -> str:
    """The number in one of the ways in which people write it."""
    write = dice.choices(list(WRITINGS), list(WRITINGS.values()))[0]
    return write(*number)


def make_rows() -> list[list[str]]:
    """All rows but the header: people, some of them a second time, and rows that nobody can use."""
    dice = random.Random(SEED)  # noqa: S311 -- the same file every time
    numbers = make_numbers(dice)
    rows = [
        [make_name(dice), write_number(number, dice), pick(NICHES, dice), pick(STATUSES, dice), pick(NOTES, dice), ""]
        for number in numbers
    ]
    for person in dice.sample(range(PEOPLE // 2), 20):
        again = [rows[person][0].upper(), write_number(numbers[person], dice), *rows[person][2:4], "sudah ada?", ""]
        rows.insert(dice.randint(PEOPLE // 2 + 1, len(rows)), again)
    for broken in BROKEN:
        rows.insert(dice.randint(20, len(rows)), broken)
    return rows


if __name__ == "__main__":
    with TARGET.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *make_rows()])
