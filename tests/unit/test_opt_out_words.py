"""What counts as asking to be left alone."""

import pytest

from siaran.errors import Invalid
from siaran.models.accounts import OPT_OUT_WORDS
from siaran.opt_out_words import clean_words, comparable, find_word


@pytest.mark.parametrize(
    "text",
    [
        "STOP", "stop", " Stop ", "stop.", "*STOP*", "“stop”!", "S.T.O.P", "\u200bst\u200dop\ufeff", "\uff33\uff34\uff2f\uff30",
        "STOP 🙏", "stop\n", "🛑stop🛑\ufe0f",
    ],
)  # fmt: skip
def test_the_word_alone_is_an_opt_out_however_it_is_written(text: str):
    assert find_word(text, OPT_OUT_WORDS) == "STOP"


@pytest.mark.parametrize(
    "text", ["", " ", "!!!", "please stop", "stop it", "stopp", "bus stop", "non-stop", "STOP " * 100, "\u200b", "🛑"]
)
def test_anything_else_is_not(text: str):
    assert find_word(text, OPT_OUT_WORDS) is None


def test_words_of_ones_own_are_found_as_they_are_listed():
    assert find_word("tak  nak!", ["Tak nak", "Henti"]) == "Tak nak"
    assert find_word("STRASSE", ["straße"]) == "straße"
    assert find_word("STOP", ["Henti"]) is None


def test_words_in_other_scripts_keep_their_marks():
    assert find_word("நிறுத்து.", ["நிறுத்து"]) == "நிறுத்து"
    assert comparable("หยุด") != comparable("หยด")


def test_a_list_is_tidied_and_names_each_word_once():
    assert clean_words([" Tak   nak ", "STOP", "stop!", "\uff33\uff34\uff2f\uff30"]) == ["Tak nak", "STOP"]


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ([], "opt_out_words", "is empty"),
        (["STOP", " "], "opt_out_words.1", "neither a letter nor a digit"),
        (["🛑"], "opt_out_words.0", "neither a letter nor a digit"),
        (["st\0op"], "opt_out_words.0", "neither a letter nor a digit"),
        (["x" * 51], "opt_out_words.0", "longer than 50"),
        ([f"word {number}" for number in range(51)], "opt_out_words", "more than 50 words"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused_word_by_word(words: list[str], field: str, reason: str):
    with pytest.raises(Invalid) as caught:
        clean_words(words)
    assert [error.field for error in caught.value.errors] == [field]
    assert reason in caught.value.errors[0].reason
