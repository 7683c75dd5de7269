"""The words with which a contact asks to be left alone, and whether a message is one of them and nothing else."""

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from siaran.errors import FieldError, Invalid

MOST_WORDS = 50
LONGEST_WORD = 50
LONGEST_REPLY = 200
"""Characters of the longest message that is looked at; a longer one says more than a word."""

# Punctuation, symbols such as emoji, and what cannot be seen: format characters, controls, variation selectors.
_IGNORED = frozenset({"Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Cf", "Cc"})


def comparable(text: str) -> str:
    """What is left of a text for comparison: letters, digits and single blanks, without case.

    `" *Stop!*\\u200b "` becomes `stop`; full-width letters count as the plain ones.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = [" " if char.isspace() else char for char in folded if char.isspace() or not _is_ignored(char)]
    return " ".join("".join(kept).split())


def _is_ignored(char: str) -> bool:
    return unicodedata.category(char) in _IGNORED or "\ufe00" <= char <= "\ufe0f"


def find_word(text: str, words: Sequence[str]) -> str | None:
    """The word of the list that a message consists of, as the list has it; None for any other message."""
    if len(text) > LONGEST_REPLY:
        return None
    said = comparable(text)
    return _by_comparison(tuple(words)).get(said) if said else None


@lru_cache(1_000)
def _by_comparison(words: tuple[str, ...]) -> dict[str, str]:
    return {comparable(word): word for word in reversed(words)}


def clean_words(raw: Iterable[str], field: str = "opt_out_words") -> list[str]:
    """A user's list with single blanks, each word once however it is written; raises `Invalid` naming each wrong word."""
    words: dict[str, str] = {}
    errors: list[FieldError] = []
    for position, text in enumerate(raw):
        word = " ".join(text.split())
        if len(word) > LONGEST_WORD:
            errors.append(FieldError(f"{field}.{position}", f"is longer than {LONGEST_WORD} characters"))
        elif "\0" in word or not comparable(word):
            errors.append(FieldError(f"{field}.{position}", "has neither a letter nor a digit"))
        else:
            words.setdefault(comparable(word), word)
    if len(words) > MOST_WORDS:
        errors.append(FieldError(field, f"has more than {MOST_WORDS} words"))
    if not words and not errors:
        errors.append(FieldError(field, "is empty: contacts need a word with which they can opt out"))
    if errors:
        raise Invalid(errors)
    return list(words.values())
