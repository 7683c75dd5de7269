"""The session files of real accounts: names, permissions, and what can be read of them."""

import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

from siaran.gateway.interface import Attempt, AttemptAnswer, NotConnected
from siaran.gateway.session_files import (
    create_session,
    find_attempt,
    has_session,
    linked_jid,
    list_sessions,
    remove_session,
    session_path,
)

DEVICE = UUID("0b9a3c52-5e0e-4c43-8b8d-6d8f6a1c2d3e")
KEY = bytes(range(32))


def fill(path: Path, *, jid: str | None = "6281:1@s.whatsapp.net", key: bytes | None = None) -> None:
    """Write what the client would."""
    with closing(sqlite3.connect(path)) as session:
        session.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
        session.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
        if jid:
            session.execute("INSERT INTO whatsmeow_device VALUES (?)", [jid])
        if key:
            session.execute("INSERT INTO whatsmeow_message_secrets VALUES ('3EB0', ?)", [key])
        session.commit()


def test_sessions_are_listed_by_device_and_generation(tmp_path: Path) -> None:
    assert list_sessions(tmp_path / "nowhere") == set()
    create_session(tmp_path, DEVICE, 1)
    create_session(tmp_path, DEVICE, 12)
    (tmp_path / "notes.db").touch()
    assert list_sessions(tmp_path) == {(DEVICE, 1), (DEVICE, 12)}
    assert has_session(tmp_path, DEVICE, 12)
    assert not has_session(tmp_path, DEVICE, 2)


def test_a_session_is_its_owners_alone(tmp_path: Path) -> None:
    path = create_session(tmp_path / "sessions", DEVICE, 1)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_session_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    fill(create_session(tmp_path, DEVICE, 1))
    with closing(sqlite3.connect(create_session(tmp_path, DEVICE, 1))) as session:
        assert session.execute("SELECT count(*) FROM whatsmeow_device").fetchone() == (1,)
        assert session.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_removing_a_session_leaves_nothing_of_it(tmp_path: Path) -> None:
    path = create_session(tmp_path, DEVICE, 1)
    with closing(sqlite3.connect(path)) as session:
        session.execute("CREATE TABLE t (x)")
        assert len(list(tmp_path.iterdir())) > 1
        remove_session(tmp_path, DEVICE, 1)
    assert list(tmp_path.iterdir()) == []
    remove_session(tmp_path, DEVICE, 1)


async def test_an_attempt_is_found_by_its_key(tmp_path: Path) -> None:
    path = create_session(tmp_path, DEVICE, 1)
    fill(path, key=KEY)
    assert await find_attempt(path, KEY) == Attempt(AttemptAnswer.ATTEMPTED, "3EB0")
    assert await find_attempt(path, KEY[::-1]) == Attempt(AttemptAnswer.NOT_ATTEMPTED)
    assert await linked_jid(path) == "6281:1@s.whatsapp.net"


async def test_what_another_process_has_not_committed_is_not_seen(tmp_path: Path) -> None:
    path = create_session(tmp_path, DEVICE, 1)
    fill(path)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("INSERT INTO whatsmeow_message_secrets VALUES ('3EB0', ?)", [KEY])
        assert await find_attempt(path, KEY) == Attempt(AttemptAnswer.NOT_ATTEMPTED)
        writer.commit()
        assert await find_attempt(path, KEY) == Attempt(AttemptAnswer.ATTEMPTED, "3EB0")


async def test_a_session_that_is_gone_empty_broken_or_unlinked_cannot_tell(tmp_path: Path) -> None:
    unlinked = create_session(tmp_path, DEVICE, 1)
    fill(unlinked, jid=None, key=KEY)
    empty = create_session(tmp_path, DEVICE, 2)
    broken = session_path(tmp_path, DEVICE, 3)
    broken.write_text("this is no database at all" * 100)
    for path in (unlinked, empty, broken, session_path(tmp_path, DEVICE, 4)):
        assert await find_attempt(path, KEY) == Attempt(AttemptAnswer.CANNOT_TELL)
        assert await linked_jid(path) is None


async def test_a_session_that_cannot_be_opened_is_no_answer(tmp_path: Path) -> None:
    path = create_session(tmp_path, DEVICE, 1)
    fill(path)
    with closing(sqlite3.connect(path)) as owner:
        owner.execute("PRAGMA locking_mode = EXCLUSIVE")
        owner.execute("CREATE TABLE t (x)")
        owner.commit()
        with pytest.raises(NotConnected, match="database is locked"):
            await find_attempt(path, KEY)
    assert await find_attempt(path, KEY) == Attempt(AttemptAnswer.NOT_ATTEMPTED)
