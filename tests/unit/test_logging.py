"""What a log line may hold."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from siaran.logging import HIDDEN, configure_logging, hide


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root, config = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**config)


@pytest.mark.parametrize(
    "text",
    [
        "60123456789",
        "+60123456789",
        "to 60123456789: not on WhatsApp",
        "60123456789@s.whatsapp.net",
        "60123456789:12@s.whatsapp.net",
        "+60 12-345 6789 is invalid",
        "call 012-345 6789 now",
        "Key (user_id, phone)=(8d0e, 60123456789) already exists.",
    ],
)
def test_a_phone_number_is_hidden_wherever_it_stands(text: str):
    hidden = hide(text)
    assert HIDDEN in hidden
    assert "345" not in hidden


@pytest.mark.parametrize(
    "text",
    [
        "campaign 1234567",
        "7b4a9c9e-0d5c-4a0c-9d0e-123456789012",
        "2026-11-22T15:48:38.123456Z",
        "127.0.0.1:16379",
        "took 1234.567 ms, 20000000 rows",
        "device:7b4a9c9e-0d5c-4a0c-9d0e-0a1b2c3d4e5f",
    ],
)
def test_ids_times_and_addresses_stay(text: str):
    assert hide(text) == text


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("postgresql://siaran:hunter2@db:5432/siaran", "hunter2"),
        ("redis://:hunter2@cache/0", "hunter2"),
        ("null value\nDETAIL:  Failing row contains (1, Dear hunter2,\nbuy now).\nCONTEXT: x", "hunter2"),
        ("[SQL: INSERT]\n[parameters: ('hunter2', 1)]", "hunter2"),
        ("Input should be valid [type=int, input_value='hunter2', input_type=str]", "hunter2"),
    ],
)
def test_what_libraries_quote_of_secrets_and_rows_is_hidden(text: str, secret: str):
    assert secret not in hide(text)
    assert HIDDEN in hide(text)


def test_values_are_hidden_by_their_name_at_any_depth():
    event = {"event": "sent", "campaign": 7, "message": {"text": "Hi Aisyah", "to": [{"phone": 60123456789}]}, "ok": True}
    assert hide(event) == {
        "event": "sent",
        "campaign": 7,
        "message": {"text": HIDDEN, "to": [{"phone": HIDDEN}]},
        "ok": True,
    }


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_our_lines_and_those_of_libraries_are_json_with_the_request_id(capsys: pytest.CaptureFixture[str]):
    configure_logging(as_json=True)
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("siaran").info("started", devices=3)
        logging.getLogger("some.library").warning("cannot reach %s", "60123456789")
    ours, theirs = lines(capsys)
    assert (ours["event"], ours["devices"], ours["level"], ours["request_id"]) == ("started", 3, "info", "r-1")
    assert (theirs["event"], theirs["level"], theirs["request_id"]) == (f"cannot reach {HIDDEN}", "warning", "r-1")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_keeps_its_lines_but_not_the_number(capsys: pytest.CaptureFixture[str], as_json: bool):
    configure_logging(as_json=as_json)
    secret = "60123456789"
    try:
        raise ValueError(f"cannot send to {secret}")
    except ValueError:
        structlog.get_logger("siaran").exception("failed")
    written = capsys.readouterr().err
    assert "ValueError: cannot send to" in written
    assert "test_logging.py" in written
    assert secret not in written


def test_verbose_lines_appear_only_when_asked_for(capsys: pytest.CaptureFixture[str]):
    for debug in (False, True):
        configure_logging(as_json=True, debug=debug)
        structlog.get_logger("siaran").debug("detail")
        assert bool(lines(capsys)) is debug
