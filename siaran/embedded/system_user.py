"""The unprivileged user that PostgreSQL runs as when Siaran itself is started by root."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

from siaran.embedded.errors import StackError
from siaran.processes import SystemUser

NAME = "embedded_postgres"
READ_AND_ENTER = stat.S_IROTH | stat.S_IXOTH


def unprivileged_user() -> SystemUser | None:
    """The user for PostgreSQL, which refuses to run as root; created when missing. None when we are not root anyway."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        _create_user()
        entry = pwd.getpwnam(NAME)
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _create_user() -> None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise StackError(f"PostgreSQL refuses to run as root, and there is no `useradd` to create the user {NAME}.") from error
    except subprocess.CalledProcessError as error:
        raise StackError(f"PostgreSQL refuses to run as root, and `useradd` failed: {error.stderr.strip()}") from error


def allow_passage(path: Path) -> None:
    """Let everyone traverse, but not list, the folders above `path`, as another user must to reach it."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def allow_reading(folder: Path, sample: Path) -> None:
    """Let everyone read programs that were installed under a strict umask, unless `sample` shows that everyone can."""
    if sample.stat().st_mode & READ_AND_ENTER == READ_AND_ENTER:
        return
    for path in [folder, *folder.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        enter = stat.S_IXOTH if mode & stat.S_IXUSR else 0
        path.chmod(mode | stat.S_IROTH | enter)
