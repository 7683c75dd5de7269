"""Reads one session file, as a program of its own: `python -I -S session_reader.py SESSION_FILE [KEY]`, KEY in hexadecimal.

It is never imported. The WhatsApp client carries an SQLite of its own, and locks on files belong to processes: a second SQLite
in the client's process takes the shared memory for its own, and drops the client's locks when it closes the file. It prints one
JSON object.
"""

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

BUSY_SECONDS = 2.0
TABLES = {"whatsmeow_device", "whatsmeow_message_secrets"}
BROKEN = {"SQLITE_CORRUPT", "SQLITE_NOTADB"}


def read(path: Path, key: bytes | None) -> dict[str, object]:
    """The addresses of the devices that a file links, and the id of the message that was given this key as its secret."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as session:
        session.execute("BEGIN")  # one view of both tables
        tables = {name for (name,) in session.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables >= TABLES:
            return {"jids": [], "message_id": None}
        jids = [jid for (jid,) in session.execute("SELECT jid FROM whatsmeow_device ORDER BY jid")]
        found = session.execute("SELECT message_id FROM whatsmeow_message_secrets WHERE key = ?", [key]).fetchone()
        return {"jids": jids, "message_id": found[0] if found else None}


def main(path: str, key: str = "") -> int:
    """Print what the file says; returns 0, or 1 if it cannot be read at the moment."""
    try:
        answer = read(Path(path), bytes.fromhex(key) or None)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") not in BROKEN:
            sys.stderr.write(f"{error}\n")
            return 1
        answer = {"jids": [], "message_id": None}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
