"""What messages carry that is neither text nor a file."""

import pytest

from siaran.message_contents import ContactCard, Content, Location, Poll, describe_content, is_content

CONTENTS: list[tuple[str, Content, str]] = [
    ("location", Location(latitude=3.1579, longitude=-101.7), "Location: 3.157900, -101.700000"),
    ("location", Location(latitude=0, longitude=0, name="KLCC", address="KL"), "Location: KLCC, KL, 0.000000, 0.000000"),
    ("contact", ContactCard(name="Siti", phone="60123456789"), "Contact: Siti, +60123456789"),
    ("poll", Poll(question="When?", options=("Mon", "Tue"), selectable=2), "Poll: When?\n- Mon\n- Tue"),
]


@pytest.mark.parametrize(("kind", "content", "words"), CONTENTS)
def test_what_is_written_can_be_read_and_described(kind: str, content: Content, words: str):
    text = content.model_dump_json()
    assert is_content(kind, text)
    assert type(content).model_validate_json(text) == content
    assert describe_content(kind, text) == words


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("location", ""),
        ("location", '{"latitude": 91, "longitude": 0}'),
        ("location", '{"latitude": NaN, "longitude": 0}'),
        ("contact", '{"name": "Siti", "phone": "+60"}'),
        ("contact", '["Siti"]'),
        ("poll", '{"question": "When?", "options": ["Mon"]}'),
        ("poll", '{"question": "When?", "options": ["Mon", "Mon"]}'),
        ("poll", '{"question": "When?", "options": ["Mon", "Tue"], "selectable": 3}'),
        ("poll", "When?"),
    ],
)
def test_what_no_transport_can_read_is_recognised_and_shown_as_it_stands(kind: str, text: str):
    assert not is_content(kind, text)
    assert describe_content(kind, text) == text


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_texts_and_captions_are_anything(kind: str):
    assert is_content(kind, "{")
    assert describe_content(kind, "{") == "{"
