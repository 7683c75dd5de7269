"""Niches are whole tags."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siaran.niches import parse_niches


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", []),
        (" , ;\n", []),
        ("EXSTART", ["EXSTART"]),
        ("exstart", ["EXSTART"]),
        ("EXSTART,ITADRESS", ["EXSTART", "ITADRESS"]),
        (" itadress ; EXSTART ", ["ITADRESS", "EXSTART"]),
        ("A,b,a,B,c", ["A", "B", "C"]),
        ("A\r\nB\rC\nD", ["A", "B", "C", "D"]),
        ("B40,\N{FULLWIDTH COMMA}M40\N{IDEOGRAPHIC COMMA}T20", ["B40", "M40", "T20"]),
        ("kelas  pagi, kelas\tmalam", ["KELAS PAGI", "KELAS MALAM"]),
    ],
)
def test_a_text_falls_into_its_tags(text, tags):
    assert parse_niches(text) == tags


def test_a_tag_is_never_part_of_another():
    assert "IT" not in parse_niches("ITADRESS")
    assert "ADRESS" not in parse_niches("ITADRESS,EXSTART")


@given(st.text(alphabet="aAbB ,;\n\tßé", max_size=30) | st.text(max_size=30))
def test_tags_are_clean_and_stay_the_same_when_read_again(text):
    tags = parse_niches(text)
    assert len(set(tags)) == len(tags)
    assert all(tag == " ".join(tag.split()) != "" for tag in tags)
    assert parse_niches(",".join(tags)) == tags
